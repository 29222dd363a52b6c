"""Log-probabilities as OpenAI's clients read them."""

import json
from typing import Any

import openai
import pytest

from tests.http.serving import Running
from tests.http.test_openai import events_of

MESSAGES: Any = [{"role": "user", "content": "€"}]
TOKENS = list("user:€\n".encode())


def likely(token: int) -> float:
    """Return what the echo engine makes up."""
    return -(1 + token % 8) / 8


def test_a_chat_with_logprobs(echo: Running) -> None:
    answer = echo.openai.chat.completions.create(
        model="demo", messages=MESSAGES, logprobs=True, top_logprobs=2
    )
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.content is not None
    assert [token.bytes for token in found.content] == [[byte] for byte in TOKENS]
    assert [token.logprob for token in found.content] == [likely(byte) for byte in TOKENS]
    assert [token.token for token in found.content[4:9]] == [":", "\\xe2", "\\x82", "\\xac", "\n"]
    assert [(top.token, top.logprob) for top in found.content[0].top_logprobs] == [
        ("u", likely(117)), ("v", likely(117) - 0.5),
    ]  # fmt: skip
    assert found.refusal is None


def test_a_chat_without_alternatives(echo: Running) -> None:
    answer = echo.openai.chat.completions.create(model="demo", messages=MESSAGES, logprobs=True)
    assert answer.choices[0].logprobs is not None
    assert [token.top_logprobs for token in answer.choices[0].logprobs.content or []] == [[]] * 9


def test_the_chunks_of_a_chat_have_the_tokens_of_their_text(echo: Running) -> None:
    chunks = list(
        echo.openai.chat.completions.create(
            model="demo", messages=MESSAGES, logprobs=True, n=2, stream=True
        )
    )
    for index in (0, 1):
        own = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
        said = [choice for choice in own if choice.delta.content]
        for choice in said:
            assert choice.logprobs is not None
            raw = b"".join(bytes(token.bytes or ()) for token in choice.logprobs.content or ())
            assert raw.decode() == choice.delta.content
        assert "".join(choice.delta.content or "" for choice in said) == "user:€\n"
        assert [choice.logprobs for choice in own if not choice.delta.content] == [None, None]


def test_a_completion_with_logprobs(echo: Running) -> None:
    answer = echo.openai.completions.create(model="demo", prompt=list("a€".encode()), logprobs=1)
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.tokens == ["a", "bytes:\\xe2", "bytes:\\x82", "bytes:\\xac"]
    assert found.token_logprobs == [likely(97), likely(0xE2), likely(0x82), likely(0xAC)]
    assert found.text_offset == [0, 1, 1, 1]
    assert found.top_logprobs is not None
    assert found.top_logprobs[1] == {"bytes:\\xe2": likely(0xE2)}


def test_an_echo_with_logprobs_begins_with_null(echo: Running) -> None:
    body = {"model": "demo", "prompt": [97, 98], "echo": True, "logprobs": 2, "max_tokens": 1}
    choice = echo.post("/v1/completions", body).json()["choices"][0]
    assert choice == {
        "index": 0,
        "text": "aba",
        "logprobs": {
            "tokens": ["a", "b", "a"],
            "token_logprobs": [None, -0.375, -0.25],
            "top_logprobs": [None, {"b": -0.375, "c": -0.875}, {"a": -0.25, "b": -0.75}],
            "text_offset": [0, 1, 2],
        },
        "finish_reason": "length",
    }


@pytest.mark.parametrize("logprobs", [None, 0])
def test_a_prompt_alone_can_be_echoed(echo: Running, logprobs: int | None) -> None:
    body = {"model": "demo", "prompt": ["é", "ab"], "echo": True, "max_tokens": 0}
    answer = echo.post("/v1/completions", body | {"logprobs": logprobs}).json()
    assert [choice["text"] for choice in answer["choices"]] == ["é", "ab"]
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"length"}
    assert answer["usage"]["completion_tokens"] == 0
    found = answer["choices"][1]["logprobs"]
    assert found == (
        None
        if logprobs is None
        else {
            "tokens": ["<s>", "a", "b"],
            "token_logprobs": [None, -0.25, -0.375],
            "top_logprobs": [None, {"a": -0.25}, {"b": -0.375}],
            "text_offset": [0, 0, 1],
        }
    )


def test_an_echo_is_streamed_first(echo: Running) -> None:
    body = {"model": "demo", "prompt": [97, 98], "echo": True, "logprobs": 0, "stream": True}
    *chunks, _ = events_of(echo.post("/v1/completions", body))
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert [choice["text"] for choice in choices] == ["ab", "a", "b", ""]
    offsets = [choice["logprobs"] and choice["logprobs"]["text_offset"] for choice in choices]
    assert offsets == [[0, 1], [2], [3], None]


def test_no_tokens_without_an_echo_are_refused(echo: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="max_tokens") as error:
        echo.openai.completions.create(model="demo", prompt="a", max_tokens=0)
    assert error.value.param == "max_tokens"
