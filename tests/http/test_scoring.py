import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from mooring.engines.echo import EchoSettings
from mooring.spec.prompt import PromptFormat
from tests.http.serving import LABEL, Running, running_server

USER = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def plain() -> Iterator[Running]:
    """Serve an engine that answers each prompt with itself, unrendered."""
    settings = EchoSettings(
        context_length=100, fail_after=lambda r: 2 if 33 in r.prompt_ids else None
    )
    with running_server(settings, prompt_format=PromptFormat(kind="plain")) as running:
        yield running


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"inputs": ["a", "é"]}, {"predictions": {"candidates": ["a", "é"]}}),
        ({"instances": [{"prompt": "a"}]}, {"predictions": {"candidates": ["a"]}}),
        ({"dataframe_split": {"columns": ["prompt"], "data": [["a"], ["b"]]}},
         {"predictions": {"candidates": ["a", "b"]}}),
        ({"inputs": ["a", "b"], "params": {"n": 2}},
         {"predictions": {"candidates": ["a", "a", "b", "b"]}}),
        ({"inputs": ["hello"], "params": {"max_tokens": 3}},
         {"predictions": {"candidates": ["he"]}}),
        ({"prompt": "hello", "stop": "l"}, {"candidates": ["he"]}),
        ({"prompt": ["a", "b"], "temperature": 0.5}, {"candidates": ["a", "b"]}),
        ({"inputs": []}, {"predictions": {"candidates": []}}),
    ],
)  # fmt: skip
def test_every_row_is_answered_in_order(plain: Running, body: Any, answer: Any) -> None:
    response = plain.post("/invocations", body)
    assert (response.status_code, response.json()) == (200, answer)
    assert response.headers["x-mooring-model"] == LABEL


def test_messages_are_rendered(echo: Running) -> None:
    response = echo.post("/invocations", {"messages": USER})
    assert response.json() == {"candidates": ["user:hi\n"]}
    response = echo.post("/invocations", {"inputs": [{"messages": USER}, {"prompt": "x"}]})
    assert response.json() == {"predictions": {"candidates": ["user:hi\n", "user:x\n"]}}


def test_csv_is_taken(plain: Running) -> None:
    with plain.client as client:
        response = client.post(
            "/invocations", content='prompt\na\n"b,c"\n', headers={"content-type": "text/csv"}
        )
    assert response.json() == {"predictions": {"candidates": ["a", "b,c"]}}


def test_sixty_four_rows_are_answered_and_one_more_is_not(plain: Running) -> None:
    rows = [str(number) for number in range(65)]
    response = plain.post("/invocations", {"inputs": rows[:64]})
    assert response.json() == {"predictions": {"candidates": rows[:64]}}
    response = plain.post("/invocations", {"inputs": rows})
    assert response.status_code == 400
    assert response.json()["message"].startswith("One call takes at most 64 prompts. Given: 65.")


@pytest.mark.parametrize(
    ("body", "status", "error_code", "message"),
    [
        ({"inputs": ["a", ""]}, 400, "INVALID_PARAMETER_VALUE",
         "row 1: `prompt` must not be empty."),
        ({"inputs": ["a", "x" * 200]}, 400, "INVALID_PARAMETER_VALUE",
         "row 1: The prompt must have fewer than 100 tokens, the model's context. Given: 201. "
         "Shorten it."),
        ({"inputs": ["a"], "params": {"temprature": 1}}, 400, "INVALID_PARAMETER_VALUE", None),
        ({"inputs": ["a"], "params": {"temperature": 9}}, 400, "INVALID_PARAMETER_VALUE",
         "`temperature` must be >= 0 and <= 2. Given: 9."),
        ({"inputs": ["a"], "extra": 1}, 400, "INVALID_PARAMETER_VALUE",
         "Unknown field `extra`. Leave it out."),
        ({"messages": USER}, 400, "INVALID_PARAMETER_VALUE", None),
        ({"inputs": ["fine", "fail!"]}, 500, "INTERNAL_ERROR", "Told to fail after 2 tokens."),
    ],
)  # fmt: skip
def test_errors_have_mlflows_form_and_names(
    plain: Running, body: Any, status: int, error_code: str, message: str | None
) -> None:
    response = plain.post("/invocations", body)
    assert response.status_code == status
    assert set(response.json()) == {"error_code", "message"}
    assert response.json()["error_code"] == error_code
    assert message is None or response.json()["message"] == message
    plain.wait_idle()


def test_what_is_refused_is_not_repeated(plain: Running) -> None:
    secret = "my secret prompt"
    for body in (
        {"inputs": [secret, 5]},
        {"inputs": [secret], "x": 1},
        {"prompt": secret, "n": 99},
    ):
        response = plain.post("/invocations", body)
        assert response.status_code == 400
        assert secret not in response.text


@pytest.mark.parametrize(
    ("content", "kind", "status", "error_code"),
    [
        (b"{", "application/json", 400, "BAD_REQUEST"),
        (b"[]", "application/json", 400, "BAD_REQUEST"),
        (b"{}", "text/plain", 415, "BAD_REQUEST"),
        (b"PAR1", "application/vnd.apache.parquet", 400, "INVALID_PARAMETER_VALUE"),
        (b"{}", "application/json; charset=latin-1", 415, "BAD_REQUEST"),
        (b"question\na\n", "text/csv", 400, "INVALID_PARAMETER_VALUE"),
    ],
)
def test_bad_bytes_are_refused_in_mlflows_form(
    plain: Running, content: bytes, kind: str, status: int, error_code: str
) -> None:
    with plain.client as client:
        response = client.post("/invocations", content=content, headers={"content-type": kind})
    assert (response.status_code, response.json()["error_code"]) == (status, error_code)


def test_no_content_type_is_refused(plain: Running) -> None:
    with plain.client as client:
        response = client.post("/invocations", content=b'{"inputs": "a"}')
    assert response.status_code == 415
    assert response.json() == {
        "error_code": "BAD_REQUEST",
        "message": "`Content-Type` must be application/json, text/csv or "
        "application/vnd.apache.parquet. Given: none.",
    }


def test_a_wrong_method_is_refused_in_mlflows_form(plain: Running) -> None:
    with plain.client as client:
        response = client.get("/invocations")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["error_code"] == "BAD_REQUEST"


def test_mlflows_own_client_reads_the_answers(plain: Running) -> None:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    host, port = plain.url.removeprefix("http://").split(":")
    client = ScoringServerClient(host, int(port))
    client.ping()
    client.wait_server_ready(timeout=5)
    assert json.loads(client.get_version()) == {"version": "0.1.0"}
    frame = pd.DataFrame({"prompt": ["a", "hello"]}, index=[5, 9])
    for data in (frame, ["a", "hello"]):
        answer = client.invoke(data, params={"max_tokens": 3})
        assert answer.get_predictions("dataframe").to_dict("list") == {"candidates": ["a", "he"]}
    frame = pd.DataFrame({"prompt": ["a", None], "messages": [None, None]})
    with pytest.raises(Exception, match="row 1: exactly one of `prompt` and `messages`"):
        client.invoke(frame)


def test_the_gateways_parser_reads_the_answers(plain: Running) -> None:
    from mlflow.gateway.providers.mlflow import ServingTextResponse

    answer = plain.post("/invocations", {"inputs": ["hello"], "params": {"n": 2}}).json()
    assert ServingTextResponse(**answer).predictions == ["hello", "hello"]


def test_one_row_is_streamed_in_the_form_of_the_whole(plain: Running) -> None:
    for body, answer in (
        ({"inputs": ["héllo"]}, lambda text: {"predictions": {"candidates": [text]}}),
        ({"dataframe_records": [{"prompt": "héllo"}]},
         lambda text: {"predictions": {"candidates": [text]}}),
        ({"prompt": "héllo"}, lambda text: {"candidates": [text]}),
    ):  # fmt: skip
        response = plain.post("/invocations", body | {"stream": True})
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["x-mooring-model"] == LABEL
        *events, done = response.text.removesuffix("\n\n").split("\n\n")
        assert done == "data: [DONE]"
        assert [json.loads(event.removeprefix("data: ")) for event in events] == [
            answer(character) for character in "héllo"
        ]
    plain.wait_idle()


def test_a_stream_that_fails_ends_with_an_error_in_mlflows_form(plain: Running) -> None:
    response = plain.post("/invocations", {"inputs": ["fine!"], "stream": True})
    *events, error, done = response.text.removesuffix("\n\n").split("\n\n")
    assert (response.status_code, len(events), done) == (200, 1, "data: [DONE]")
    assert json.loads(error.removeprefix("data: ")) == {
        "error_code": "INTERNAL_ERROR", "message": "Told to fail after 2 tokens.",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": ["a", "b"], "stream": True}, "one row with `n` = 1. Given: 2 rows, `n` = 1."),
        ({"prompt": "a", "n": 2, "stream": True}, "one row with `n` = 1. Given: 1 rows, `n` = 2."),
        ({"inputs": [], "stream": True}, "Given: 0 rows"),
        ({"prompt": "a", "stream": "yes"}, "`stream` must be true or false."),
    ],
)
def test_more_than_one_answer_cannot_be_streamed(plain: Running, body: Any, message: str) -> None:
    response = plain.post("/invocations", body)
    assert response.status_code == 400
    assert message in response.json()["message"]
