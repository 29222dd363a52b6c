"""Every token comes once, with the piece of text in which its own text begins."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mooring.generation import (
    Likelihood,
    LogprobsWanted,
    RawText,
    RivalToken,
    SamplingParams,
    TextRequest,
    TextToken,
    TokenIds,
)
from mooring.service.stream import TextDelta
from tests.service.texts import ByteTokenizer, echo_service

WANTED = LogprobsWanted(answer=1)


def pieces_of(
    prompt: Any, *, echo: bool = False, logprobs: LogprobsWanted = WANTED, **sampling: Any
) -> list[TextDelta]:
    """Return what an echo of `prompt` comes as."""
    params = SamplingParams(max_tokens=sampling.pop("max_tokens", None)).update(sampling)
    request = TextRequest(prompt, params, logprobs=logprobs, echo=echo)

    async def ask() -> list[TextDelta]:
        with echo_service() as service:
            stream = service.start(await service.prepare(request))
            return [piece async for piece in stream if isinstance(piece, TextDelta)]

    return asyncio.run(ask())


def texts(pieces: list[TextDelta]) -> list[tuple[str, bytes]]:
    return [(piece.text, b"".join(token.raw for token in piece.logprobs)) for piece in pieces]


def test_a_character_comes_with_all_its_tokens() -> None:
    pieces = pieces_of(TokenIds(tuple("a€b".encode())))
    assert texts(pieces) == [("a", b"a"), ("€", "€".encode()), ("b", b"b")]
    assert [token.offset for piece in pieces for token in piece.logprobs] == [0, 1, 1, 1, 2]
    assert pieces[0].logprobs == (
        TextToken(97, b"a", 0, -0.25, (RivalToken(97, b"a", -0.25),), 1),
    )  # fmt: skip


def test_tokens_wait_with_the_text_that_may_begin_a_stop_string() -> None:
    assert texts(pieces_of(RawText("xabd"), stop=["abc"])) == [("x", b"<s>x"), ("abd", b"abd")]


def test_tokens_behind_a_stop_string_never_come() -> None:
    assert texts(pieces_of(TokenIds(tuple(b"xyabcz")), stop=["abc"])) == [
        ("x", b"x"), ("y", b"y"),
    ]  # fmt: skip


def test_what_is_no_text_comes_at_the_end() -> None:
    assert texts(pieces_of(TokenIds((97, 256)))) == [("a", b"a"), ("", b"<s>")]
    assert texts(pieces_of(TokenIds((97, 0xE2)))) == [("a", b"a"), ("\ufffd", b"\xe2")]


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), st.text("ab", max_size=2))
def test_pieces_have_the_tokens_of_their_text(text: str, stop: str) -> None:
    pieces = pieces_of(TokenIds(tuple(text.encode())), stop=[stop] if stop else [])
    expected = text[: text.find(stop)] if stop and stop in text else text
    assert "".join(piece.text for piece in pieces) == expected
    for piece in pieces:
        assert b"".join(token.raw for token in piece.logprobs).decode() == piece.text


def test_an_echo_comes_first_with_its_tokens_if_asked() -> None:
    both = LogprobsWanted(answer=0, prompt=0)
    prompt, *answer = pieces_of(RawText("€b"), echo=True, logprobs=both)
    assert prompt.text == "€b"
    shown = [(token.raw, token.offset, token.logprob) for token in prompt.logprobs]
    assert shown == [
        (b"<s>", 0, None), (b"\xe2", 0, -3 / 8), (b"\x82", 0, -3 / 8), (b"\xac", 0, -5 / 8),
        (b"b", 1, -3 / 8),
    ]  # fmt: skip
    assert texts(answer) == [("€", b"<s>\xe2\x82\xac"), ("b", b"b")]
    assert [token.offset for token in answer[1].logprobs] == [3]


def test_an_echo_without_logprobs_has_the_text_alone() -> None:
    none = LogprobsWanted()
    assert pieces_of(TokenIds(tuple(b"ab")), echo=True, logprobs=none, max_tokens=1) == [
        TextDelta(0, "ab"), TextDelta(0, "a"),
    ]  # fmt: skip
    assert pieces_of(RawText("ab"), echo=True, logprobs=none, max_tokens=0) == [TextDelta(0, "ab")]


def test_nothing_but_the_prompt_is_read_for_no_tokens() -> None:
    wanted = LogprobsWanted(answer=2, prompt=2)
    (prompt,) = pieces_of(RawText("ab"), echo=True, logprobs=wanted, max_tokens=0)
    assert [token.logprob for token in prompt.logprobs] == [None, -0.25, -0.375]
    assert prompt.logprobs[2].top == (RivalToken(98, b"b", -0.375), RivalToken(99, b"c", -0.875))


def test_likelihoods_of_ids_without_bytes() -> None:
    assert ByteTokenizer().token_bytes(300) == b"<s>"
    assert Likelihood(-1.0).top == ()
