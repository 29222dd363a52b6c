import json

import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from mooring.protocol.openai.answers import (
    AnswerFormat,
    AnswerHead,
    Choice,
    Usage,
    error_body,
    event_line,
    model_body,
    model_list,
)
from mooring.protocol.openai.chat_answers import ChatFormat
from mooring.protocol.openai.completion_answers import CompletionFormat

HEAD = AnswerHead("x-1", 7, "demo", "mooring-ab")
USAGE = Usage(3, 4, 2)
COMMON = {"id": "x-1", "created": 7, "model": "demo", "system_fingerprint": "mooring-ab"}


def test_a_whole_chat() -> None:
    body = ChatFormat().whole(HEAD, [Choice("a", "stop"), Choice("b", "length")], USAGE)
    assert body == {
        **COMMON,
        "object": "chat.completion",
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": reason,
            }
            for index, text, reason in ((0, "a", "stop"), (1, "b", "length"))
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
    }
    ChatCompletion.model_validate(body, strict=True)


def test_the_chunks_of_a_chat() -> None:
    format = ChatFormat()
    chunks = [
        *format.opening(HEAD, 1),
        *format.delta(HEAD, 1, "a"),
        *format.end(HEAD, 1, "stop"),
        format.usage(HEAD, USAGE),
    ]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:3]]
    assert deltas == [{"role": "assistant", "content": "", "refusal": None}, {"content": "a"}, {}]
    assert [c["choices"][0]["finish_reason"] for c in chunks[:3]] == [None, None, "stop"]
    assert [c["choices"][0]["index"] for c in chunks[:3]] == [1, 1, 1]
    assert chunks[3]["choices"] == []
    assert chunks[3]["usage"]["total_tokens"] == 7
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        assert COMMON.items() <= chunk.items()
        ChatCompletionChunk.model_validate(chunk, strict=True)


def test_a_whole_completion_and_its_chunks() -> None:
    format = CompletionFormat()
    whole = format.whole(HEAD, [Choice("a", "stop")], USAGE)
    assert whole["choices"] == [
        {"index": 0, "text": "a", "logprobs": None, "finish_reason": "stop"}
    ]
    assert whole["usage"]["prompt_tokens"] == 3
    assert format.opening(HEAD, 0) == []
    assert format.delta(HEAD, 2, "é")[0]["choices"][0] == {
        "index": 2, "text": "é", "logprobs": None, "finish_reason": None,
    }  # fmt: skip
    assert format.end(HEAD, 2, "length")[0]["choices"][0] == {
        "index": 2, "text": "", "logprobs": None, "finish_reason": "length",
    }  # fmt: skip
    for body in (whole, format.usage(HEAD, USAGE)):
        assert body["object"] == "text_completion"
        Completion.model_validate(body, strict=True)


@pytest.mark.parametrize(
    ("format", "prefix"), [(ChatFormat(), "chatcmpl-"), (CompletionFormat(), "cmpl-")]
)
def test_ids_say_what_they_are_of(format: AnswerFormat, prefix: str) -> None:
    assert format.id_prefix == prefix


def test_models_are_listed() -> None:
    listed = model_list([model_body("demo", 7, 512)])
    assert listed == {
        "object": "list",
        "data": [
            {
                "id": "demo",
                "object": "model",
                "created": 7,
                "owned_by": "mooring",
                "max_model_len": 512,
            }
        ],
    }
    Model.model_validate(listed["data"][0], strict=True)


def test_errors_have_all_four_fields() -> None:
    assert error_body("no", "server_error", param=None, code="x") == {
        "error": {"message": "no", "type": "server_error", "param": None, "code": "x"}
    }


def test_an_event_is_one_line_of_json() -> None:
    line = event_line({"text": "a\n\né\u2028"})
    assert line == rb'data: {"text":"a\n\n\u00e9\u2028"}' + b"\n\n"
    assert json.loads(line.removeprefix(b"data: ")) == {"text": "a\n\né\u2028"}
