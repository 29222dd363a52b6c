import json
from typing import Any

import httpx
import pytest

from mooring.engines.echo import EchoSettings
from mooring.settings import ServerLimits, ServerSettings, ServiceLimits
from tests.http.serving import Running, running_server

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
TEXT = {"model": "demo", "prompt": "hi"}
JSON = {"content-type": "application/json"}


def refused(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    assert "/work" not in response.text
    error: dict[str, Any] = body["error"]
    return error


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"temperature": -1}, "invalid_parameter", "temperature"),
        ({"temperature": 2.1}, "invalid_parameter", "temperature"),
        ({"temperature": "0.5"}, "invalid_parameter", "temperature"),
        ({"top_p": 0}, "invalid_parameter", "top_p"),
        ({"top_k": -5}, "invalid_parameter", "top_k"),
        ({"top_k": 1.5}, "invalid_parameter", "top_k"),
        ({"min_p": 2}, "invalid_parameter", "min_p"),
        ({"n": 0}, "invalid_parameter", "n"),
        ({"n": 10**9}, "invalid_parameter", "n"),
        ({"n": True}, "invalid_parameter", "n"),
        ({"max_tokens": 0}, "invalid_parameter", "max_tokens"),
        ({"max_tokens": 2**63}, "invalid_parameter", "max_tokens"),
        ({"max_tokens": 5000}, "invalid_parameter", "max_tokens"),
        ({"seed": 2**63}, "invalid_parameter", "seed"),
        ({"stop": ["a"] * 5}, "invalid_parameter", "stop"),
        ({"stop": [""]}, "invalid_parameter", "stop"),
        ({"stop": ["x" * 65]}, "invalid_parameter", "stop"),
        ({"stop": [1]}, "invalid_parameter", "stop"),
        ({"logit_bias": {"a": 1}}, "invalid_parameter", "logit_bias"),
        ({"logit_bias": {"1": 101}}, "invalid_parameter", "logit_bias"),
        ({"logit_bias": {"200000": 1}}, "invalid_parameter", "logit_bias"),
        ({"presence_penalty": 3}, "invalid_parameter", "presence_penalty"),
        ({"ignore_eos": 1}, "invalid_parameter", "ignore_eos"),
        ({"stream": "yes"}, "invalid_parameter", "stream"),
        ({"model": None}, "invalid_parameter", "model"),
        ({"guided_json": {}}, "invalid_parameter", "guided_json"),
        ({"chat_templates": "x"}, "invalid_parameter", "chat_templates"),
        ({"min_tokens": -1}, "invalid_parameter", "min_tokens"),
        ({"min_tokens": 9, "max_tokens": 8}, "invalid_parameter", "min_tokens"),
        ({"allowed_token_ids": [100_000]}, "invalid_parameter", "allowed_token_ids"),
        ({"bad_words": ["x"] * 65}, "invalid_parameter", "bad_words"),
        ({"bad_words": [""]}, "invalid_parameter", "bad_words"),
        ({"use_beam_search": True}, "unsupported_parameter", "use_beam_search"),
        ({"stop_token_ids": [100_000]}, "invalid_parameter", "stop_token_ids"),
    ],
)
def test_bad_fields_are_refused_by_name_on_both_routes(
    echo: Running, fields: dict[str, Any], code: str, param: str
) -> None:
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)):
        for stream in (False, True):
            response = echo.post(path, {"stream": stream, **body, **fields})
            error = refused(response, 400)
            assert (error["type"], error["code"], error["param"]) == (
                "invalid_request_error", code, param,
            )  # fmt: skip


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
@pytest.mark.parametrize("field", ["temperature", "top_p", "presence_penalty"])
def test_numbers_must_be_finite(echo: Running, field: str, number: bytes) -> None:
    body = b'{"model": "demo", "prompt": "hi", "%s": %s}' % (field.encode(), number)
    with echo.client as client:
        response = client.post("/v1/completions", content=body, headers=JSON)
    assert refused(response, 400)["param"] == field


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ("hi", "messages"),
        ([{"role": "user", "content": "a"}] * 1025, "messages"),
        ([{"role": "tool", "content": "a"}], "messages[0].tool_call_id"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0]"),
    ],
)
def test_bad_messages_are_refused_by_path(echo: Running, messages: Any, param: str) -> None:
    error = refused(echo.post("/v1/chat/completions", {**CHAT, "messages": messages}), 400)
    assert (error["param"], error["code"]) == (param, "invalid_prompt")


def test_an_unsupported_field_has_its_own_code(echo: Running) -> None:
    error = refused(echo.post("/v1/chat/completions", {**CHAT, "store": True}), 400)
    assert (error["param"], error["code"]) == ("store", "unsupported_parameter")
    assert error["message"] == "`store` other than false is not supported. Leave it out."


@pytest.mark.parametrize("prompt", ["", [], [""], [[]], [100_001], [-1]])
def test_an_empty_or_unknown_prompt_is_refused(echo: Running, prompt: Any) -> None:
    error = refused(echo.post("/v1/completions", {**TEXT, "prompt": prompt}), 400)
    assert (error["param"], error["code"]) == ("prompt", "invalid_prompt")


def test_a_prompt_longer_than_the_context_is_refused(echo: Running) -> None:
    error = refused(echo.post("/v1/completions", {**TEXT, "prompt": "x" * 5000}), 400)
    assert error["code"] == "context_length_exceeded"
    assert error["message"].startswith("The prompt must have fewer than 4096 tokens")


def test_too_many_prompts_are_refused(echo: Running) -> None:
    error = refused(echo.post("/v1/completions", {**TEXT, "prompt": ["a"] * 65}), 400)
    assert error["message"].startswith("One call takes at most 64 prompts. Given: 65.")


def test_a_model_that_is_not_served_is_not_found(echo: Running) -> None:
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)):
        error = refused(echo.post(path, {**body, "model": "gpt-4o"}), 404)
        assert (error["param"], error["code"]) == ("model", "model_not_found")
        assert error["message"] == (
            "The model must be one of: demo, org/champion. Given: 'gpt-4o'."
        )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"model": "secret',
        b"[" * 100_000,
        b'{"a":"\\ud800"}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_not_json_is_refused_without_repeating_it(echo: Running, body: bytes) -> None:
    with echo.client as client:
        error = refused(client.post("/v1/completions", content=body, headers=JSON), 400)
    assert error["code"] == "invalid_json"
    assert "secret" not in error["message"]


@pytest.mark.parametrize(
    ("headers", "given"),
    [
        ({}, "none"),
        ({"content-type": "text/plain"}, "text/plain"),
        ({"content-type": "text/csv"}, "text/csv"),
        ({"content-type": "application/json; charset=latin-1"}, "charset=latin-1"),
        ({"content-type": "application/json; boundary=x"}, "boundary=x"),
        ({**JSON, "content-encoding": "gzip"}, "gzip"),
        ({**JSON, "content-encoding": "identity, gzip"}, "identity, gzip"),
    ],
)
def test_other_types_and_encodings_are_refused(
    echo: Running, headers: dict[str, str], given: str
) -> None:
    with echo.client as client:
        response = client.post("/v1/completions", content=json.dumps(TEXT), headers=headers)
    error = refused(response, 415)
    assert error["code"] == "unsupported_media_type"
    assert given in error["message"]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON; charset=UTF-8"]
)
def test_json_may_say_that_it_is_utf8(echo: Running, kind: str) -> None:
    headers = {"content-type": kind, "content-encoding": "identity"}
    with echo.client as client:
        response = client.post("/v1/completions", content=json.dumps(TEXT), headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/chat/completions/", "/v1/embeddings", "//v1/models", "/v1/..%2fx", "/%00"],
)
def test_unknown_paths_are_not_found_and_never_redirected(echo: Running, path: str) -> None:
    with echo.client as client:
        response = client.get(f"{echo.url}{path}")
    assert refused(response, 404)["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("PUT", "/health", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_refused(echo: Running, method: str, path: str, allowed: str) -> None:
    with echo.client as client:
        response = client.request(method, path)
    assert refused(response, 405)["code"] == "method_not_allowed"
    assert sorted(response.headers["allow"].split(", ")) == allowed.split(", ")


def test_a_full_server_says_when_to_come_back() -> None:
    engine = EchoSettings(seconds_per_token=0.02, max_running=1)
    settings = ServerSettings(
        limits=ServiceLimits(max_waiting=1), server=ServerLimits(drain_seconds=0.1)
    )
    with running_server(engine, settings) as running:
        body = {**TEXT, "prompt": "x" * 2000, "stream": True}
        with running.client as client, client.stream("POST", "/v1/completions", json=body):
            for path, given in (
                ("/v1/completions", {**TEXT, "n": 2}),
                ("/v1/completions", {**TEXT, "n": 2, "stream": True}),
            ):
                response = running.post(path, given)
                error = refused(response, 503)
                assert (error["type"], error["code"]) == ("server_error", "server_busy")
                assert 1 <= int(response.headers["retry-after"]) <= 30
                assert error["message"].endswith(
                    f"Try again in {response.headers['retry-after']} s."
                )
            response = running.post("/invocations", {"inputs": "a", "params": {"n": 2}})
            assert response.status_code == 503
            assert "retry-after" in response.headers
            assert response.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
        running.wait_idle()


def test_prompt_tokens_that_wait_are_bounded() -> None:
    engine = EchoSettings(seconds_per_token=0.02, max_running=1)
    settings = ServerSettings(
        limits=ServiceLimits(max_waiting_tokens=50), server=ServerLimits(drain_seconds=0.1)
    )
    with running_server(engine, settings) as running:
        body = {**TEXT, "prompt": "x" * 2000, "stream": True}
        with running.client as client, client.stream("POST", "/v1/completions", json=body):
            response = running.post("/v1/completions", {**TEXT, "prompt": "y" * 60})
            error = refused(response, 503)
            assert error["code"] == "server_busy"
            assert error["message"].startswith(
                "At most 50 prompt tokens may wait at once. Waiting: 0, asked for 61 more."
            )
        running.wait_idle()
        assert running.service.activity.waiting_tokens == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_first_token_that_comes_too_late_is_a_504(stream: bool) -> None:
    limits = ServiceLimits(first_token_seconds=0.1)
    settings = ServerSettings(limits=limits, server=ServerLimits(drain_seconds=0.1))
    with running_server(EchoSettings(seconds_per_token=0.5), settings) as running:
        error = refused(running.post("/v1/completions", {**TEXT, "stream": stream}), 504)
        assert error == {
            "message": "The first token must come within 0.1 s.",
            "type": "server_error",
            "param": None,
            "code": "deadline_exceeded",
        }
        response = running.post("/invocations", {"inputs": "a"})
        assert (response.status_code, response.json()["error_code"]) == (504, "DEADLINE_EXCEEDED")
        running.wait_idle()


def test_a_stream_that_falls_silent_ends_with_an_error_event() -> None:
    limits = ServiceLimits(token_seconds=0.1)
    settings = ServerSettings(limits=limits, server=ServerLimits(drain_seconds=0.1))
    with running_server(EchoSettings(seconds_per_token=0.5), settings) as running:
        body = {**TEXT, "prompt": [104, 105], "stream": True}
        *_, error, done, end = running.post("/v1/completions", body).text.split("\n\n")
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
        assert (done, end) == ("data: [DONE]", "")
        running.wait_idle()
