"""Answers of every kind keep to the schemas that OpenAI publishes for them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mooring.engines.echo import EchoSettings
from tests.http.serving import Running, running_server
from tests.http.test_openai import events_of
from tests.http.test_responses import TOOL as RESPONSE_TOOL
from tests.http.test_responses import events
from tests.http.test_tools import CALLS, TOOL, saying

DATA = Path(__file__).parents[1] / "data" / "openai_answers.json"
SCHEMAS: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))

CHAT, TEXT, RESPONSE = "/v1/chat/completions", "/v1/completions", "/v1/responses"
CHUNK = {CHAT: "CreateChatCompletionStreamResponse", TEXT: "CreateCompletionResponse"}
WHOLE = {
    CHAT: "CreateChatCompletionResponse", TEXT: "CreateCompletionResponse", RESPONSE: "Response",
}  # fmt: skip
BASE: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "é€"}]},
    TEXT: {"prompt": [97, 195, 169]},
    RESPONSE: {"input": "é€"},
}
CALL = {"messages": [{"role": "user", "content": f"Well. {CALLS['hermes']}"}], "tools": [TOOL]}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    *[(path, {}) for path in BASE],
    (CHAT, {"max_tokens": 1}),
    (CHAT, {"n": 3, "stop": "€"}),
    (CHAT, {"logprobs": True}),
    (CHAT, {"logprobs": True, "top_logprobs": 3, "n": 2}),
    (CHAT, CALL),
    (CHAT, {**CALL, "parallel_tool_calls": False, "logprobs": True}),
    (CHAT, {**CALL, "tool_choice": "none"}),
    (CHAT, {"metadata": {"a": "b"}, "user": "eve", "service_tier": "auto", "store": False}),
    (TEXT, {"prompt": ["ab", "c"], "n": 2}),
    (TEXT, {"logprobs": 2}),
    (TEXT, {"echo": True, "logprobs": 0, "max_tokens": 1}),
    (TEXT, {"echo": True, "stop": "é"}),
    (RESPONSE, {"max_output_tokens": 1, "temperature": 0, "metadata": {"a": "b"}}),
    (RESPONSE, {"instructions": "Be brief.", "user": "eve", "prompt_cache_key": "k"}),
    (RESPONSE, {"input": f"Well. {CALLS['hermes']}", "tools": [RESPONSE_TOOL]}),
    (RESPONSE, {"text": {"format": {"type": "text"}}, "tools": [], "tool_choice": "none"}),
]  # fmt: skip


def complaints(schema: str, body: Any) -> list[str]:
    """Return where a body is not what OpenAI says."""
    validator = Draft202012Validator({"$ref": f"#/components/schemas/{schema}", **SCHEMAS})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(body)]


def event_complaints(event: dict[str, Any]) -> list[str]:
    """Return where an event is not what OpenAI says of events of its type."""
    schemas = SCHEMAS["components"]["schemas"]
    kinds = [each["$ref"].rpartition("/")[2] for each in schemas["ResponseStreamEvent"]["anyOf"]]
    types = {schemas[kind]["properties"]["type"]["enum"][0]: kind for kind in kinds}
    return complaints(types[event["type"]], event)


def without_nulls(answer: dict[str, Any]) -> dict[str, Any]:
    """Replace the nulls that OpenAI sends in completions where its schema has no place for them.

    These are the finish reason and the usage until the end, and the log-probability of a first
    token.
    """
    choices = []
    for choice in answer["choices"]:
        choice = choice | {"finish_reason": choice["finish_reason"] or "stop"}
        if choice["logprobs"]:
            choice["logprobs"] = choice["logprobs"] | {
                "token_logprobs": [one or 0.0 for one in choice["logprobs"]["token_logprobs"]],
                "top_logprobs": [one or {} for one in choice["logprobs"]["top_logprobs"]],
            }
        choices.append(choice)
    told = {name: value for name, value in answer.items() if name != "usage" or value}
    return told | {"choices": choices}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running_server(prompt_format=saying("<tool_call>")) as running:
        yield running


@pytest.mark.parametrize(("path", "fields"), REQUESTS)
def test_whole_answers(server: Running, path: str, fields: dict[str, Any]) -> None:
    answer = server.post(path, {"model": "demo", **BASE[path], **fields})
    assert answer.status_code == 200, answer.text
    told = without_nulls(answer.json()) if path == TEXT else answer.json()
    assert complaints(WHOLE[path], told) == []


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize(("path", "fields"), [r for r in REQUESTS if r[0] != RESPONSE])
def test_chunks(server: Running, path: str, fields: dict[str, Any], usage: bool) -> None:
    asked = {"stream": True, "stream_options": {"include_usage": usage}}
    answer = server.post(path, {"model": "demo", **BASE[path], **fields, **asked})
    *chunks, done = events_of(answer)
    assert done == "[DONE]"
    parsed = [json.loads(chunk) for chunk in chunks]
    assert ("usage" in parsed[-1] and not parsed[-1]["choices"]) is usage
    for chunk in parsed:
        told = without_nulls(chunk) if path == TEXT else chunk
        assert complaints(CHUNK[path], told) == []


@pytest.mark.parametrize("fields", [fields for path, fields in REQUESTS if path == RESPONSE])
def test_events(server: Running, fields: dict[str, Any]) -> None:
    told = events(server, {"model": "demo", **BASE[RESPONSE], **fields})
    assert len(told) >= 6
    for event in told:
        assert event_complaints(event) == []


def test_models(server: Running) -> None:
    with server.client as client:
        assert complaints("ListModelsResponse", client.get("/v1/models").json()) == []
        assert complaints("Model", client.get("/v1/models/demo").json()) == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *[(path, {"model": "other", **BASE[path]}) for path in BASE],
        *[(path, {"model": "demo", **BASE[path], "temperature": 9}) for path in BASE],
        *[(path, {}) for path in BASE],
        ("/v1/nothing", {}),
        ("/v1/models", {}),
    ],
)
def test_errors(server: Running, path: str, body: dict[str, Any]) -> None:
    answer = server.post(path, body)
    assert answer.status_code in (400, 404, 405)
    assert complaints("ErrorResponse", answer.json()) == []


def test_a_stream_that_fails() -> None:
    with running_server(EchoSettings(fail_after=lambda request: 2)) as running:
        for path in (CHAT, TEXT):
            body = {"model": "demo", **BASE[path], "stream": True}
            *_, error, _ = events_of(running.post(path, body))
            assert complaints("ErrorResponse", json.loads(error)) == []
        *_, failed = events(running, {"model": "demo", **BASE[RESPONSE]})
        assert failed["type"] == "response.failed"
        assert event_complaints(failed) == []


def test_a_wrong_answer_is_seen(server: Running) -> None:
    answer = server.post(CHAT, {"model": "demo", **BASE[CHAT]}).json()
    del answer["choices"][0]["message"]["refusal"]
    assert complaints(WHOLE[CHAT], answer) == [
        "$.choices[0].message: 'refusal' is a required property"
    ]
