"""What vLLM's clients may ask for beside OpenAI's fields, and where its answers have it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mooring.settings import ServerLimits, ServerSettings
from mooring.spec.prompt import PromptFormat
from tests.http.serving import PATIENCE, Running, running_server
from tests.http.test_openai import events_of
from tests.http.test_thoughts import TEXT, ask

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "€"}]}
CHAT_IDS = list("user:€\n".encode())
TOLD = {"return_token_ids": True}


def completion(server: Running, **fields: Any) -> httpx.Response:
    return server.post("/v1/completions", {"model": "demo", "prompt": [97, 98], **fields})


def chunks_of(response: httpx.Response) -> list[dict[str, Any]]:
    *chunks, _ = events_of(response)
    return [json.loads(chunk) for chunk in chunks]


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["param"]


def test_a_completion_tells_its_token_ids(echo: Running) -> None:
    prompts = [[97, 98], [99]]
    choices = completion(echo, prompt=prompts, n=2, **TOLD).json()["choices"]
    assert [choice["prompt_token_ids"] for choice in choices] == [*[[97, 98]] * 2, *[[99]] * 2]
    assert [choice["token_ids"] for choice in choices] == [*[[97, 98]] * 2, *[[99]] * 2]
    assert "token_ids" not in completion(echo).json()["choices"][0]


def test_a_chat_tells_its_token_ids(echo: Running) -> None:
    answer = echo.post("/v1/chat/completions", CHAT | TOLD).json()
    assert answer["prompt_token_ids"] == CHAT_IDS
    assert answer["choices"][0]["token_ids"] == CHAT_IDS


def test_token_ids_come_also_of_text_that_is_cut_off(echo: Running) -> None:
    answer = completion(echo, prompt=list(b"abcd"), stop="bc", **TOLD).json()["choices"][0]
    assert (answer["text"], answer["token_ids"]) == ("a", list(b"abc"))
    answer = completion(echo, prompt=list(b"abcd"), stop_token_ids=[99], **TOLD).json()
    assert answer["choices"][0]["text"] == "ab"
    assert answer["choices"][0]["token_ids"] == list(b"abc")
    assert answer["usage"]["completion_tokens"] == 2


def test_an_answer_tells_what_stopped_it(echo: Running) -> None:
    asked: list[tuple[dict[str, Any], Any]] = [
        ({"stop": ["c", "bc"]}, "bc"), ({"stop_token_ids": [98]}, 98), ({"stop": "x"}, None),
        ({"max_tokens": 1}, None),
    ]  # fmt: skip
    for fields, reason in asked:
        whole = completion(echo, prompt=list(b"abcd"), **fields).json()["choices"][0]
        assert whole.get("stop_reason") == reason
        chunks = chunks_of(completion(echo, prompt=list(b"abcd"), stream=True, **fields))
        choices = [chunk["choices"][0] for chunk in chunks]
        told = [choice["stop_reason"] for choice in choices if "stop_reason" in choice]
        assert told == ([] if reason is None else [reason])
        assert "finish_reason" in choices[-1]


def test_a_stream_tells_its_token_ids_as_they_come(echo: Running) -> None:
    chunks = chunks_of(echo.post("/v1/chat/completions", CHAT | TOLD | {"stream": True, "n": 2}))
    told = [chunk["prompt_token_ids"] for chunk in chunks if "prompt_token_ids" in chunk]
    assert told == [CHAT_IDS] * 2
    for index in (0, 1):
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert [id for choice in own for id in choice["token_ids"]] == CHAT_IDS
        (euro,) = [choice for choice in own if choice["delta"].get("content") == "€"]
        assert euro["token_ids"] == list("€".encode())
    chunks = chunks_of(completion(echo, stream=True, **TOLD))
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice.get("prompt_token_ids") for choice in choices] == [[97, 98], None, None]
    assert [choice["token_ids"] for choice in choices] == [[97], [98], []]


def test_tokens_are_named_by_their_ids(echo: Running) -> None:
    by_id = {"return_tokens_as_token_ids": True}
    found = completion(echo, logprobs=1, **by_id).json()["choices"][0]["logprobs"]
    assert found["tokens"] == ["token_id:97", "token_id:98"]
    assert found["top_logprobs"] == [{"token_id:97": -0.25}, {"token_id:98": -0.375}]
    body = CHAT | by_id | {"logprobs": True, "top_logprobs": 1, "max_tokens": 1}
    for stream in (False, True):
        response = echo.post("/v1/chat/completions", body | {"stream": stream})
        answers = chunks_of(response) if stream else [response.json()]
        (told,) = [
            token
            for answer in answers
            for choice in answer["choices"]
            for token in (choice["logprobs"] or {"content": []})["content"]
        ]
        u = {"token": "token_id:117", "logprob": -0.75, "bytes": [117]}
        assert told == u | {"top_logprobs": [u]}


def test_a_completion_tells_how_likely_its_prompt_is(echo: Running) -> None:
    choice = completion(echo, prompt_logprobs=2, max_tokens=1).json()["choices"][0]
    assert choice["prompt_logprobs"] == [
        None,
        {
            "98": {"logprob": -0.375, "rank": 1, "decoded_token": "b"},
            "99": {"logprob": -0.875, "rank": 2, "decoded_token": "c"},
        },
    ]
    assert (choice["text"], choice["logprobs"]) == ("a", None)


def test_an_echo_has_as_many_of_the_most_likely_as_its_answer(echo: Running) -> None:
    fields = {"prompt_logprobs": 2, "logprobs": 1, "echo": True, "max_tokens": 1}
    choice = completion(echo, **fields).json()["choices"][0]
    assert choice["logprobs"]["top_logprobs"] == [None, {"b": -0.375}, {"a": -0.25}]
    assert len(choice["prompt_logprobs"][1]) == 2
    plain = completion(echo, prompt_logprobs=0, echo=True, max_tokens=0).json()["choices"][0]
    assert (plain["text"], plain["logprobs"]) == ("ab", None)
    assert [one and list(one) for one in plain["prompt_logprobs"]] == [None, ["98"]]


def test_a_chat_tells_how_likely_its_prompt_is(echo: Running) -> None:
    answer = echo.post("/v1/chat/completions", CHAT | {"prompt_logprobs": 0, "n": 2}).json()
    told = [one and next(iter(one)) for one in answer["prompt_logprobs"]]
    assert told == [None, *map(str, CHAT_IDS[1:])]
    assert "prompt_logprobs" not in answer["choices"][0]


def test_a_stream_does_not_tell_how_likely_its_prompt_is(echo: Running) -> None:
    assert refusal(completion(echo, prompt_logprobs=0, stream=True)) == (400, "prompt_logprobs")
    assert refusal(completion(echo, prompt_logprobs=-1)) == (400, "prompt_logprobs")


def test_every_chunk_tells_the_usage_so_far(echo: Running) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = chunks_of(completion(echo, stream=True, stream_options=options))
    assert [chunk["usage"]["prompt_tokens"] for chunk in chunks] == [2] * 4
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert (counts, chunks[-1]["choices"]) == (sorted(counts), [])
    assert counts[-1] == 2
    alone = {"continuous_usage_stats": True}
    assert refusal(completion(echo, stream=True, stream_options=alone)) == (
        400, "stream_options.continuous_usage_stats",
    )  # fmt: skip


def test_a_client_may_name_its_answer(echo: Running) -> None:
    assert completion(echo, request_id="mine-1").json()["id"] == "cmpl-mine-1"
    assert refusal(completion(echo, request_id="a\nb")) == (400, "request_id")


def test_a_salt_must_not_be_empty(echo: Running) -> None:
    assert completion(echo, cache_salt="a").json()["choices"][0]["text"] == "ab"
    assert refusal(completion(echo, cache_salt="")) == (400, "cache_salt")


def test_the_tokenizers_own_tokens_may_be_left_out(echo: Running) -> None:
    usages = [
        completion(echo, prompt="ab", add_special_tokens=add).json()["usage"]["prompt_tokens"]
        for add in (True, False, None)
    ]
    assert usages == [3, 2, 3]
    body = CHAT | {"add_special_tokens": True}
    rendered = echo.post("/v1/chat/completions/render", body).json()
    assert rendered["count"] == len(CHAT_IDS) + 1
    assert (
        echo.post("/v1/chat/completions", body).json()["usage"]["prompt_tokens"]
        == len(CHAT_IDS) + 1
    )


def test_a_chat_may_begin_with_the_message_that_it_goes_on_with(echo: Running) -> None:
    said = {"role": "assistant", "content": "So: "}
    body = CHAT | {"messages": [*CHAT["messages"], said], "echo": True}
    text = echo.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
    assert text.startswith("So: user:€")
    text = echo.post("/v1/chat/completions", CHAT | {"echo": True}).json()
    assert text["choices"][0]["message"]["content"].startswith("user:€")


@pytest.fixture(scope="module")
def templated() -> Iterator[Running]:
    template = (
        "{% for d in documents or [] %}[{{ d.title }}]{% endfor %}"
        "{{ messages[-1].content }}{# <think> reasoning_content #}"
    )
    settings = ServerSettings(
        port=0, server=ServerLimits(drain_seconds=PATIENCE), reasoning_format="think"
    )
    prompt_format = PromptFormat(kind="chat", template=template)
    with running_server(settings=settings, prompt_format=prompt_format) as running:
        yield running


def test_documents_are_for_templates_that_read_them(templated: Running, echo: Running) -> None:
    documents = [{"title": "One", "text": "a"}, {"title": "Two", "text": "b"}]
    body = ask("hi", documents=documents)
    rendered = templated.post("/v1/chat/completions/render", body).json()
    assert rendered["prompt"] == "[One][Two]hi"
    assert refusal(echo.post("/v1/chat/completions", CHAT | {"documents": documents})) == (
        400, "documents",
    )  # fmt: skip
    assert echo.post("/v1/chat/completions", CHAT | {"documents": []}).status_code == 200


def test_thoughts_may_be_left_out(templated: Running) -> None:
    body = ask(TEXT, include_reasoning=False)
    message = templated.post("/v1/chat/completions", body).json()["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Four.", "refusal": None}
    chunks = chunks_of(templated.post("/v1/chat/completions", body | {"stream": True}))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert not any("reasoning" in delta for delta in deltas)
    assert "".join(delta.get("content", "") for delta in deltas) == "Four."
