from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.loading.light_tokenizer import LightTokenizer, find_reading
from mooring.service.detokenize import IncrementalText
from tests.service.texts import ByteTokenizer
from tests.tokenizers import TOKENIZERS

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
LETTERS = st.text("abé", max_size=30)


def pieces_of(token_ids: bytes, stop: tuple[str, ...] = ()) -> tuple[list[str], IncrementalText]:
    text = IncrementalText(ByteTokenizer(), stop)
    pieces = []
    for token in token_ids:
        pieces.append(text.push(token))
        if text.stopped:
            break
    return [*pieces, text.finish()], text


@given(TEXTS)
def test_pieces_of_a_text_join_to_it(text: str) -> None:
    pieces, _ = pieces_of(text.encode())
    assert "".join(pieces) == text


@given(st.binary(max_size=60))
def test_pieces_of_any_bytes_join_to_the_whole_decode(token_ids: bytes) -> None:
    pieces, _ = pieces_of(token_ids)
    assert "".join(pieces) == token_ids.decode("utf-8", "replace")


@given(st.lists(st.sampled_from(["€", "😀", "\xff"]), max_size=20), st.binary(max_size=2))
def test_characters_between_broken_bytes_survive(parts: list[str], end: bytes) -> None:
    token_ids = b"".join(b"\xff" if p == "\xff" else p.encode() for p in parts) + end
    pieces, _ = pieces_of(token_ids)
    assert "".join(pieces) == token_ids.decode("utf-8", "replace")


@pytest.mark.parametrize(
    "family", ["byte-level", "byte fallback", "byte fallback, legacy", "unigram"]
)
def test_spaces_survive_special_tokens_that_are_left_out(tmp_path: Path, family: str) -> None:
    TOKENIZERS[family](tmp_path)
    reading = find_reading(tmp_path, trust_remote_code=False)
    assert reading is not None
    tokenizer = LightTokenizer(tmp_path, reading)
    ship, begin, spaces = (
        tokenizer.encode(text, add_special_tokens=False) for text in ("ship", "<s>", "a    港😀 b")
    )
    for token_ids in (ship + begin + spaces, ship + begin * 3 + spaces[1:], begin + spaces + begin):
        text = IncrementalText(tokenizer)
        pieces = [*map(text.push, token_ids), text.finish()]
        assert "".join(pieces) == tokenizer.decode(token_ids)
        assert not any("\ufffd" in piece for piece in pieces)


def test_a_piece_never_ends_inside_a_character() -> None:
    assert pieces_of("a€😀".encode())[0] == ["a", "", "", "€", "", "", "", "😀", ""]


def test_an_unfinished_character_comes_out_at_the_end() -> None:
    assert pieces_of("é".encode()[:1])[0] == ["", "\ufffd"]


def test_endless_broken_bytes_are_released_and_decoded_in_short_stretches() -> None:
    longest = 0

    class Watched(ByteTokenizer):
        def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
            nonlocal longest
            longest = max(longest, len(token_ids))
            return super().decode(token_ids)

    text = IncrementalText(Watched())
    released = "".join(text.push(0xFF) for _ in range(2000))
    assert len(released) >= 1990
    assert longest <= 16


@given(LETTERS, st.lists(st.text("abé", min_size=1, max_size=4), min_size=1, max_size=4))
def test_text_ends_before_the_stop_string_that_is_complete_first(
    whole: str, stop: list[str]
) -> None:
    complete = [(whole.find(s) + len(s), whole.find(s)) for s in stop if s in whole]
    expected = whole[: min(complete)[1]] if complete else whole
    pieces, text = pieces_of(whole.encode(), tuple(stop))
    assert "".join(pieces) == expected
    assert text.stopped == bool(complete)


@pytest.mark.parametrize(
    ("whole", "stop", "pieces"),
    [
        ("xab", ("abc",), ["x", "", "", "ab"]),
        ("xabd", ("abc",), ["x", "", "", "abd", ""]),
        ("xabcy", ("abc",), ["x", "", "", "", ""]),
        ("aab", ("ab",), ["", "a", "", ""]),
        ("abcd", ("bcd", "c"), ["a", "", "b", ""]),
    ],
)
def test_the_start_of_a_stop_string_is_held_back(
    whole: str, stop: tuple[str, ...], pieces: list[str]
) -> None:
    assert pieces_of(whole.encode(), stop)[0] == pieces


def test_nothing_follows_a_stop_string() -> None:
    text = IncrementalText(ByteTokenizer(), ("b",))
    assert [text.push(ord("a")), text.push(ord("b")), text.finish()] == ["a", "", ""]


def test_stop_strings_are_found_in_text_that_came_without_tokens() -> None:
    text = IncrementalText(ByteTokenizer(), ["stop"])
    said = [text.push_text(piece) for piece in ("go st", "op", " on")]
    assert ("".join(said[:2]), text.stopped) == ("go ", True)


def test_stop_strings_are_looked_for_after_the_least_tokens() -> None:
    text = IncrementalText(ByteTokenizer(), ["b"], least_tokens=2)
    assert [text.push(token) for token in b"abab"] == ["a", "b", "a", ""]
    assert text.stopped
