"""Words become the tokens that spell them, alone and after a space."""

from collections.abc import Sequence
from typing import ClassVar

from mooring.service.bad_words import banned_sequences
from tests.service.texts import ByteTokenizer


class Words:
    """Knows a few words, with and without a space before them."""

    IDS: ClassVar[dict[str, tuple[int, ...]]] = {
        "bank": (7, 8), " bank": (9,), "a": (1,), " a": (2,),
    }  # fmt: skip

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return list(self.IDS[text])

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        raise AssertionError

    def token_bytes(self, token_id: int) -> bytes:
        raise AssertionError


def test_words_are_banned_as_they_are_spelt_alone_and_after_a_space() -> None:
    assert banned_sequences(["bank", " a", "a"], Words()) == ((7, 8), (9,), (1,), (2,))
    assert banned_sequences(["\u00e9"], ByteTokenizer()) == ((0xC3, 0xA9), (32, 0xC3, 0xA9))
    assert banned_sequences([], Words()) == ()
