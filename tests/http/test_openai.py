import asyncio
import json
import re
from typing import Any

import httpx
import openai
import pytest

from mooring.engines.echo import EchoSettings
from mooring.generation import GenerationRequest
from tests.http.serving import LABEL, Running, running_server

TEXT = "héllo wörld €😀!"
ECHO = f"user:{TEXT}\n"
MESSAGES: Any = [{"role": "user", "content": TEXT}]


def events_of(response: httpx.Response) -> list[str]:
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    parts = response.text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") and "\n" not in part for part in parts)
    return [part.removeprefix("data: ") for part in parts]


def test_a_chat_is_answered(echo: Running) -> None:
    answer = echo.openai.chat.completions.create(model="demo", messages=MESSAGES)
    (choice,) = answer.choices
    assert choice.message.content == ECHO
    assert (choice.finish_reason, choice.message.role, choice.logprobs) == (
        "stop", "assistant", None,
    )  # fmt: skip
    assert answer.usage is not None
    tokens = len(ECHO.encode())
    assert answer.usage.to_dict() == {
        "prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": 2 * tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }  # fmt: skip
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}", answer.id)
    assert (answer.model, answer.system_fingerprint) == ("demo", "mooring-0123456789ab")


def test_a_chat_is_streamed(echo: Running) -> None:
    chunks = list(
        echo.openai.chat.completions.create(
            model="org/champion",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    first, *texts, last, usage = chunks
    assert first.choices[0].delta.to_dict() == {
        "role": "assistant", "content": "", "refusal": None,
    }  # fmt: skip
    assert [chunk.choices[0].finish_reason for chunk in texts] == [None] * len(texts)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in texts) == ECHO
    assert len(texts) == len(ECHO)
    assert (last.choices[0].finish_reason, last.choices[0].delta.to_dict()) == ("stop", {})
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == len(ECHO.encode())
    assert {chunk.id for chunk in chunks} == {first.id}
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert first.model == "org/champion"


def test_the_bytes_of_a_stream(echo: Running) -> None:
    body = {"model": "demo", "prompt": "ab", "stream": True}
    *chunks, done = events_of(echo.post("/v1/completions", body))
    assert done == "[DONE]"
    parsed = [json.loads(chunk) for chunk in chunks]
    assert [chunk["choices"][0]["text"] for chunk in parsed] == ["a", "b", ""]
    assert [chunk["choices"][0]["finish_reason"] for chunk in parsed] == [None, None, "stop"]
    assert all("usage" not in chunk for chunk in parsed)
    assert {chunk["object"] for chunk in parsed} == {"text_completion"}


def test_both_clients_work_asynchronously(echo: Running) -> None:
    async def ask() -> tuple[str | None, str]:
        async with echo.async_openai as client:
            whole, stream = await asyncio.gather(
                client.chat.completions.create(model="demo", messages=MESSAGES),
                client.chat.completions.create(model="demo", messages=MESSAGES, stream=True),
            )
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        return whole.choices[0].message.content, "".join(parts)

    assert asyncio.run(ask()) == (ECHO, ECHO)


def test_many_clients_get_their_own_answers(slow: Running) -> None:
    async def ask(client: openai.AsyncOpenAI, number: int) -> str:
        stream = await client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": f"{number}"}], stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def ask_all() -> list[str]:
        async with slow.async_openai as client:
            return await asyncio.gather(*(ask(client, number) for number in range(20)))

    assert asyncio.run(ask_all()) == [f"user:{number}\n" for number in range(20)]


def test_completions_of_several_prompts_with_n(echo: Running) -> None:
    answer = echo.openai.completions.create(model="demo", prompt=["ab", "€"], n=2)
    assert [(c.index, c.text, c.finish_reason) for c in answer.choices] == [
        (0, "ab", "stop"), (1, "ab", "stop"), (2, "€", "stop"), (3, "€", "stop"),
    ]  # fmt: skip
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 14)
    assert answer.id.startswith("cmpl-")


def test_a_stream_of_several_choices(echo: Running) -> None:
    stream = echo.lenient_openai.completions.create(
        model="demo", prompt=["ab", "€"], n=2, stream=True
    )
    texts = dict.fromkeys(range(4), "")
    ends = []
    for chunk in stream:
        (choice,) = chunk.choices
        texts[choice.index] += choice.text
        if choice.finish_reason:
            ends.append((choice.index, choice.finish_reason))
    assert texts == {0: "ab", 1: "ab", 2: "€", 3: "€"}
    assert sorted(ends) == [(index, "stop") for index in range(4)]


def test_every_choice_of_a_chat_stream_opens_with_its_role(echo: Running) -> None:
    stream = echo.openai.chat.completions.create(model="demo", messages=MESSAGES, n=3, stream=True)
    roles = [chunk.choices[0].index for chunk in stream if chunk.choices[0].delta.role]
    assert roles == [0, 1, 2]


def test_token_ids_are_taken_as_prompt(echo: Running) -> None:
    answer = echo.openai.completions.create(model="demo", prompt=[list(b"ab"), list(b"c")])
    assert [choice.text for choice in answer.choices] == ["ab", "c"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_across_chunks_ends_the_answer(echo: Running, stream: bool) -> None:
    client = echo.lenient_openai.completions
    if stream:
        chunks = list(
            client.create(model="demo", prompt="one two three", stop=["o t", "zz"], stream=True)
        )
        text = "".join(chunk.choices[0].text for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        (choice,) = client.create(model="demo", prompt="one two three", stop="o t").choices
        text, reason = choice.text, choice.finish_reason
    assert (text, reason) == ("one tw", "stop")


def test_max_tokens_and_its_new_name_end_with_length(echo: Running) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        answer = echo.post("/v1/chat/completions", {"model": "demo", "messages": MESSAGES, name: 4})
        (choice,) = answer.json()["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("user", "length")


def test_extensions_reach_the_engine_through_the_client(echo: Running) -> None:
    answer = echo.openai.completions.create(
        model="demo",
        prompt=list(b"ab"),
        max_tokens=5,
        seed=7,
        extra_body={"ignore_eos": True, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1},
    )
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("ababa", "length")


def test_sampling_reaches_the_engine_with_a_seed_per_choice() -> None:
    seen: list[GenerationRequest] = []

    def note(request: GenerationRequest) -> None:
        seen.append(request)

    with running_server(EchoSettings(fail_after=note), temperature=0.3) as running:
        running.openai.completions.create(
            model="demo", prompt=[97], n=2, seed=40, top_p=0.5, extra_body={"top_k": 3}
        )
    first = {request.id: request for request in seen}
    sampled = [(r.sampling.seed, r.sampling.top_p, r.sampling.top_k) for r in first.values()]
    assert sorted(sampled, key=str) == [(40, 0.5, 3), (41, 0.5, 3)]
    assert {request.sampling.temperature for request in seen} == {0.3}


def test_models_are_listed_and_found(echo: Running) -> None:
    listed = echo.openai.models.list()
    assert [(m.id, m.created, m.owned_by) for m in listed] == [
        ("demo", 1_700_000_000, "mooring"), ("org/champion", 1_700_000_000, "mooring"),
    ]  # fmt: skip
    assert echo.openai.models.retrieve("demo").id == "demo"
    with echo.client as client:
        assert client.get("/v1/models/org/champion").json()["id"] == "org/champion"
    with pytest.raises(openai.NotFoundError) as error:
        echo.openai.models.retrieve("other")
    assert error.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_before_the_first_piece_is_a_status(stream: bool) -> None:
    with running_server(EchoSettings(fail_after=lambda request: 0)) as running:
        with pytest.raises(openai.InternalServerError) as error:
            running.openai.completions.create(model="demo", prompt="abc", stream=stream)
        assert error.value.status_code == 500
        assert error.value.body == {
            "message": "Told to fail after 0 tokens.", "type": "server_error",
            "param": None, "code": "generation_failed",
        }  # fmt: skip


def test_a_failure_after_the_first_piece_is_an_event() -> None:
    with running_server(EchoSettings(fail_after=lambda request: 3)) as running:
        body = {"model": "demo", "prompt": [97, 98, 99, 100], "stream": True}
        response = running.post("/v1/completions", body)
        assert response.status_code == 200
        *texts, error, done = events_of(response)
        assert [json.loads(text)["choices"][0]["text"] for text in texts] == ["a", "b", "c"]
        assert json.loads(error)["error"]["code"] == "generation_failed"
        assert done == "[DONE]"
        with pytest.raises(openai.APIError, match="Told to fail after 3 tokens"):
            list(
                running.lenient_openai.completions.create(model="demo", prompt="abcd", stream=True)
            )


def test_every_answer_says_which_model_and_which_request(echo: Running) -> None:
    body = {"model": "demo", "prompt": "a"}
    for given in (body, {**body, "stream": True}, {**body, "n": 0}, {**body, "model": "x"}):
        response = echo.post("/v1/completions", given, **{"x-request-id": "my.id_1-2"})
        assert response.headers["x-request-id"] == "my.id_1-2"
        assert response.headers["x-mooring-model"] == LABEL


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "é", "a/b", "<script>"])
def test_a_strange_request_id_is_replaced(echo: Running, given: str) -> None:
    headers = [("x-request-id", given.encode())]
    with echo.client as client:
        response = client.get("/health", headers=[(b"x-request-id", headers[0][1])])
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


def test_two_request_ids_are_replaced(echo: Running) -> None:
    with echo.client as client:
        headers = [("x-request-id", "a"), ("x-request-id", "b")]
        response = client.get("/health", headers=headers)
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


def test_a_stop_token_ends_an_answer_and_is_part_of_it_if_asked(echo: Running) -> None:
    body = {"model": "demo", "prompt": [97, 98, 99], "stop_token_ids": [98], "logprobs": 0}
    for more, text, tokens in (({}, "a", 1), ({"include_stop_str_in_output": True}, "ab", 2)):
        answer = echo.post("/v1/completions", body | more).json()
        (choice,) = answer["choices"]
        assert (choice["text"], choice["finish_reason"]) == (text, "stop")
        assert "".join(choice["logprobs"]["tokens"]) == text
        assert answer["usage"]["completion_tokens"] == tokens
        *chunks, _ = events_of(echo.post("/v1/completions", body | more | {"stream": True}))
        assert "".join(json.loads(chunk)["choices"][0]["text"] for chunk in chunks) == text
    echo.wait_idle()


def test_a_stop_string_stays_where_it_is_asked_for(echo: Running) -> None:
    body = {"model": "demo", "prompt": "one two", "stop": "e t", "include_stop_str_in_output": True}
    assert echo.post("/v1/completions", body).json()["choices"][0]["text"] == "one t"


def test_no_stop_and_no_end_come_before_the_least_tokens(echo: Running) -> None:
    body = {"model": "demo", "prompt": [97, 98, 99, 97, 98, 99], "max_tokens": 20}
    for least, stop, text in (
        ({"stop": "b"}, 0, "a"),
        ({"stop": "b"}, 2, "abca"),
        ({"stop": "b"}, 5, "abcabc"),
        ({"stop_token_ids": [98]}, 1, "a"),
        ({"stop_token_ids": [98]}, 2, "abca"),
        ({}, 8, "abcabcab"),
    ):
        answer = echo.post("/v1/completions", body | least | {"min_tokens": stop}).json()
        assert answer["choices"][0]["text"] == text, (least, stop)


def test_only_the_end_of_a_long_prompt_is_read_where_that_is_asked_for(echo: Running) -> None:
    body = {"model": "demo", "prompt": [97, 98, 99, 100]}
    for most, text in ((3, "bcd"), (4, "abcd"), (9, "abcd"), (-1, "abcd")):
        answer = echo.post("/v1/completions", body | {"truncate_prompt_tokens": most}).json()
        assert answer["choices"][0]["text"] == text
        assert answer["usage"]["prompt_tokens"] == len(text)
    echoed = body | {"truncate_prompt_tokens": 2, "echo": True, "max_tokens": 1}
    assert echo.post("/v1/completions", echoed).json()["choices"][0]["text"] == "cdc"
    long = {"model": "demo", "prompt": [97] * 5000, "max_tokens": 4}
    assert echo.post("/v1/completions", long).json()["error"]["code"] == "context_length_exceeded"
    answer = echo.post("/v1/completions", long | {"truncate_prompt_tokens": -1}).json()
    with echo.client as client:
        context = client.get("/v1/models/demo").json()["max_model_len"]
    assert answer["usage"]["prompt_tokens"] == context - 4
    assert answer["choices"][0]["text"] == "aaaa"
    chat = {"model": "demo", "messages": [{"role": "user", "content": "abcdef"}]}
    answer = echo.post("/v1/chat/completions", chat | {"truncate_prompt_tokens": 2}).json()
    assert answer["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize("given", [0, -2, "3", True, 1.5, 100_000])
def test_a_strange_number_of_prompt_tokens_is_refused(echo: Running, given: object) -> None:
    body = {"model": "demo", "prompt": "abc", "truncate_prompt_tokens": given}
    answer = echo.post("/v1/completions", body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "truncate_prompt_tokens")


def test_special_tokens_are_shown_where_they_are_asked_for(echo: Running) -> None:
    body = {"model": "demo", "prompt": [97, 256, 98]}
    for skip, text in ((True, "ab"), (False, "a<s>b")):
        answer = echo.post("/v1/completions", body | {"skip_special_tokens": skip}).json()
        assert answer["choices"][0]["text"] == text


def test_top_k_of_minus_one_keeps_all_tokens(echo: Running) -> None:
    answer = echo.post("/v1/completions", {"model": "demo", "prompt": "a", "top_k": -1})
    assert answer.status_code == 200


def test_the_best_of_several_answers() -> None:
    def by_seed(request: GenerationRequest) -> None:
        seeds.append(request.sampling.seed)

    seeds: list[int | None] = []
    with running_server(EchoSettings(fail_after=by_seed)) as running:
        answer = running.openai.completions.create(
            model="demo", prompt=list(b"ab"), n=1, best_of=3, seed=5
        )
        assert [(choice.text, choice.logprobs) for choice in answer.choices] == [("ab", None)]
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 6)
    assert set(seeds) == {5, 6, 7}


def test_a_model_says_how_long_its_context_is(echo: Running) -> None:
    assert echo.openai.models.retrieve("demo").to_dict()["max_model_len"] == 4096
