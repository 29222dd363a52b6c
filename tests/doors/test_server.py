"""The door of `mooring serve`: a real process, OpenAI's client and MLflow's, the same answers."""

import asyncio
import csv
import io
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pandas as pd
import pytest
from openai.types.chat import ChatCompletionMessageParam

import mooring.demo
from mooring.api.package import PackagedModel
from mooring.loading.tokenizer import TransformersTokenizer
from tests.conftest import Store
from tests.doors.answers import (
    ANSWERS,
    CANDIDATES,
    CONVERSATIONS,
    EXPECTED,
    FIRST,
    HISTORY,
    LAST_ANSWER,
    QUESTIONS,
    as_instruct,
    user,
)
from tests.processes import BIN, free_port, server


@pytest.fixture(scope="module")
def url(demo: PackagedModel, store: Store) -> Iterator[str]:
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [BIN / "mooring", "serve", "models:/demo@champion", "--port", port]
    with server(command, f"{address}/ready"):
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    )


def chat(client: openai.OpenAI, messages: Any, **parameters: Any) -> Any:
    return client.chat.completions.create(model="demo", messages=messages, **parameters)


@pytest.mark.parametrize("question", QUESTIONS)
def test_chat(client: openai.OpenAI, question: str) -> None:
    answer = chat(client, [{"role": "user", "content": question}])
    assert answer.choices[0].message.content == ANSWERS[question]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens > 3
    assert answer.model == "demo"


@pytest.mark.parametrize("question", QUESTIONS)
def test_chat_streamed(client: openai.OpenAI, question: str) -> None:
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in chat(client, [{"role": "user", "content": question}], stream=True)
        if chunk.choices
    ]
    assert "".join(pieces) == ANSWERS[question]
    assert len(pieces) > 3


def test_a_conversation_with_history(client: openai.OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = HISTORY  # type: ignore[assignment]
    assert chat(client, messages).choices[0].message.content == LAST_ANSWER


def test_completions_take_the_prompt_as_it_is(client: openai.OpenAI) -> None:
    rendered = [as_instruct(question) for question in QUESTIONS]
    answer = client.completions.create(model="demo", prompt=rendered)
    assert [choice.text for choice in answer.choices] == EXPECTED


def test_only_completions_leave_the_prompt_unrendered(client: openai.OpenAI) -> None:
    tokenizer = TransformersTokenizer(mooring.demo.snapshot_path())
    raw = client.completions.create(model="demo", prompt=FIRST, max_tokens=1)
    assert raw.usage is not None
    assert raw.usage.prompt_tokens == len(tokenizer.encode(FIRST, add_special_tokens=True))
    rendered = chat(client, user(FIRST), max_tokens=1)
    assert rendered.usage.prompt_tokens > raw.usage.prompt_tokens


def test_completions_streamed(url: str) -> None:
    """Not with strict validation: OpenAI's own chunks have no reason before the last one."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    stream = client.completions.create(model="demo", prompt=as_instruct(FIRST), stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == ANSWERS[FIRST]


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": QUESTIONS},
        {"inputs": {"prompt": QUESTIONS}},
        {"inputs": [{"messages": messages} for messages in CONVERSATIONS]},
        {"instances": QUESTIONS},
        {"instances": [{"prompt": question} for question in QUESTIONS]},
        {"instances": [{"messages": messages} for messages in CONVERSATIONS]},
        {"dataframe_split": {"columns": ["prompt"], "data": [[q] for q in QUESTIONS]}},
        {"dataframe_records": [{"messages": messages} for messages in CONVERSATIONS]},
    ],
)
def test_invocations(url: str, body: dict[str, Any]) -> None:
    answer = httpx.post(f"{url}/invocations", json=body, timeout=60)
    assert answer.json() == {"predictions": CANDIDATES}


def test_invocations_with_plain_prompt_and_messages(url: str) -> None:
    for body, expected in (
        ({"prompt": FIRST}, [ANSWERS[FIRST]]),
        ({"prompt": QUESTIONS}, EXPECTED),
        ({"messages": HISTORY}, [LAST_ANSWER]),
    ):
        answer = httpx.post(f"{url}/invocations", json=body, timeout=60)
        assert answer.json() == {"candidates": expected}


def test_invocations_with_csv(url: str) -> None:
    table = io.StringIO()
    csv.writer(table).writerows([["prompt"], *([question] for question in QUESTIONS)])
    answer = httpx.post(
        f"{url}/invocations",
        content=table.getvalue().encode(),
        headers={"Content-Type": "text/csv"},
        timeout=60,
    )
    assert answer.json() == {"predictions": CANDIDATES}


def test_mlflows_own_client_and_the_gateways_parser(url: str) -> None:
    from mlflow.gateway.providers.mlflow import ServingTextResponse
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", int(url.rpartition(":")[2]))
    client.wait_server_ready(timeout=10)
    reply = client.invoke(pd.DataFrame({"prompt": QUESTIONS}), params={"temperature": 0.0})
    assert reply.get_predictions()["candidates"].tolist() == EXPECTED
    body = httpx.post(f"{url}/invocations", json={"inputs": [FIRST], "params": {"n": 2}}).json()
    assert ServingTextResponse(**body).predictions == [ANSWERS[FIRST]] * 2


def test_many_at_once_share_batches_and_keep_their_answers(url: str) -> None:
    async def ask_all() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            replies = await asyncio.gather(
                *(
                    client.chat.completions.create(
                        model="demo", messages=[{"role": "user", "content": question}]
                    )
                    for question in QUESTIONS * 4
                )
            )
        return [reply.choices[0].message.content for reply in replies]

    assert asyncio.run(ask_all()) == EXPECTED * 4


def test_every_answer_says_who_answered(url: str, demo: PackagedModel) -> None:
    answer = httpx.post(f"{url}/invocations", json={"prompt": FIRST}, timeout=60)
    assert answer.headers["x-mooring-model"] == f"demo/1@{demo.digest[:12]}"
    models = httpx.get(f"{url}/v1/models").json()
    assert [model["id"] for model in models["data"]] == ["demo"]


def test_health_ready_and_version(url: str) -> None:
    for path in ("/health", "/ready", "/ping"):
        assert httpx.get(f"{url}{path}").status_code == 200
    assert httpx.get(f"{url}/version").status_code == 200
