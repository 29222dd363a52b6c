"""The door of `mlflow models serve`: a real process, every body format, the same answers."""

from collections.abc import Iterator
from typing import Any

import httpx
import pandas as pd
import pytest

from mooring.api.package import PackagedModel
from tests.doors.answers import (
    ANSWERS,
    CANDIDATES,
    CONVERSATIONS,
    EXPECTED,
    FIRST,
    HISTORY,
    LAST_ANSWER,
    QUESTIONS,
)
from tests.processes import BIN, free_port, server


def serve_command(uri: str, port: int, env_manager: str) -> list[object]:
    return [
        BIN / "mlflow", "models", "serve", "-m", uri, "-p", port, "--env-manager", env_manager,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def url(demo: PackagedModel) -> Iterator[str]:
    address = f"http://127.0.0.1:{(port := free_port())}"
    with server(serve_command(demo.uri, port, "local"), f"{address}/ping"):
        yield address


def post(url: str, body: Any) -> Any:
    answer = httpx.post(f"{url}/invocations", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": QUESTIONS},
        {"inputs": {"prompt": QUESTIONS}},
        {"inputs": [{"prompt": question} for question in QUESTIONS]},
        {"inputs": [{"messages": messages} for messages in CONVERSATIONS]},
        {"instances": QUESTIONS},
        {"instances": [{"prompt": question} for question in QUESTIONS]},
        {"instances": [{"messages": messages} for messages in CONVERSATIONS]},
        {"dataframe_split": {"columns": ["prompt"], "data": [[q] for q in QUESTIONS]}},
        {"dataframe_split": {"columns": ["messages"], "data": [[m] for m in CONVERSATIONS]}},
        {"dataframe_records": [{"prompt": question} for question in QUESTIONS]},
        {"dataframe_records": [{"messages": messages} for messages in CONVERSATIONS]},
    ],
    ids=[
        "inputs-strings", "inputs-columns", "inputs-records", "inputs-messages",
        "instances-strings", "instances-records", "instances-messages",
        "split", "split-messages", "records", "records-messages",
    ],
)  # fmt: skip
def test_every_format_answers_every_row(url: str, body: dict[str, Any]) -> None:
    assert post(url, body) == {"predictions": CANDIDATES}


def test_plain_prompt_and_messages(url: str) -> None:
    assert post(url, {"prompt": FIRST}) == {"candidates": [ANSWERS[FIRST]]}
    assert post(url, {"prompt": QUESTIONS}) == CANDIDATES
    assert post(url, {"messages": CONVERSATIONS[1]}) == {"candidates": [EXPECTED[1]]}
    assert post(url, {"messages": HISTORY}) == {"candidates": [LAST_ANSWER]}


def test_csv(url: str) -> None:
    table = pd.DataFrame({"prompt": QUESTIONS}).to_csv(index=False)
    answer = httpx.post(
        f"{url}/invocations",
        content=table.encode(),
        headers={"Content-Type": "text/csv"},
        timeout=60,
    )
    assert answer.json() == {"predictions": CANDIDATES}


def test_parameters_are_honoured_through_http(url: str) -> None:
    short = post(url, {"inputs": [FIRST], "params": {"max_tokens": 3}})
    text = short["predictions"]["candidates"][0]
    assert ANSWERS[FIRST].startswith(text)
    assert len(text) < len(ANSWERS[FIRST])
    assert post(url, {"prompt": FIRST, "max_tokens": 3}) == {"candidates": [text]}
    assert post(url, {"prompt": FIRST, "temperature": 0}) == {"candidates": [ANSWERS[FIRST]]}


def test_bad_input_is_a_clean_400(url: str) -> None:
    secret = "secret prompt that no error may repeat"
    body = {"inputs": [secret], "params": {"temperature": 9.0}}
    answer = httpx.post(f"{url}/invocations", json=body, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert answer.json()["message"] == "`temperature` must be >= 0 and <= 2. Given: 9.0."
    assert secret not in answer.text
    assert "Traceback" not in answer.text
    assert post(url, {"prompt": FIRST}) == {"candidates": [ANSWERS[FIRST]]}


def test_mlflows_own_client_and_the_gateways_parser(url: str) -> None:
    from mlflow.gateway.providers.mlflow import ServingTextResponse
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", int(url.rpartition(":")[2]))
    reply = client.invoke(pd.DataFrame({"prompt": QUESTIONS}))
    assert reply.get_predictions()["candidates"].tolist() == EXPECTED
    gateway_body = post(url, {"inputs": [FIRST], "params": {"n": 2}})
    assert ServingTextResponse(**gateway_body).predictions == [ANSWERS[FIRST]] * 2


@pytest.mark.slow
def test_the_artifacts_own_requirements_suffice(demo: PackagedModel) -> None:
    """In a new environment Mooring itself can only come from the artifact's code folder."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = serve_command(demo.uri, port, "virtualenv")
    with server(command, f"{address}/ping", seconds=1200):
        assert post(address, {"inputs": QUESTIONS}) == {"predictions": CANDIDATES}
