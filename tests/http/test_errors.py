import asyncio
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from mooring import errors
from mooring.http.app import create_app
from mooring.http.errors import MEANINGS, problem_of, report_error
from mooring.observe.record import RequestRecord
from mooring.service.host import ModelHost
from mooring.settings import ServerSettings
from tests.http.serving import IDENTITY
from tests.service.texts import echo_service


def error_classes(root: type[errors.MooringError]) -> set[type[errors.MooringError]]:
    return {root}.union(*(error_classes(kind) for kind in root.__subclasses__()))


def test_every_error_has_a_meaning() -> None:
    in_the_tree = {k for k in error_classes(errors.MooringError) if k.__module__ == errors.__name__}
    assert set(MEANINGS) == in_the_tree


@pytest.mark.parametrize(
    ("error", "status", "openai_type", "mlflow_code"),
    [
        (errors.InvalidParameter, 400, "invalid_request_error", "INVALID_PARAMETER_VALUE"),
        (errors.InvalidJson, 400, "invalid_request_error", "BAD_REQUEST"),
        (errors.UnknownModel, 404, "invalid_request_error", "RESOURCE_DOES_NOT_EXIST"),
        (errors.ServerBusy, 503, "server_error", "TEMPORARILY_UNAVAILABLE"),
        (errors.NotReady, 503, "server_error", "TEMPORARILY_UNAVAILABLE"),
        (errors.EngineStopped, 503, "server_error", "TEMPORARILY_UNAVAILABLE"),
        (errors.RequestFailed, 500, "server_error", "INTERNAL_ERROR"),
        (errors.CorruptArtifact, 500, "server_error", "INTERNAL_ERROR"),
    ],
)
def test_errors_are_reported_in_both_forms(
    error: type[errors.MooringError], status: int, openai_type: str, mlflow_code: str
) -> None:
    problem = problem_of(error("what", param="which"))
    response = problem.response("/v1/completions")
    assert response.status_code == status
    assert (b'"type":"%s"' % openai_type.encode()) in bytes(response.body)
    assert response.headers.get("retry-after") == ("2" if status == 503 else None)
    response = problem.response("/invocations")
    assert response.status_code == status
    assert (b'"error_code":"%s"' % mlflow_code.encode()) in bytes(response.body)


def test_a_class_of_its_own_is_reported_like_the_one_above_it() -> None:
    class Special(errors.ServerBusy):
        code = "special"

    problem = problem_of(Special("full"))
    assert (problem.meaning.status, problem.code) == (503, "special")


def test_what_broke_inside_is_logged_but_not_told(caplog: pytest.LogCaptureFixture) -> None:
    problem = problem_of(errors.CorruptArtifact("/secret/path differs"))
    assert "secret" not in problem.message
    assert "/secret/path differs" in caplog.text


class Broken:
    """A service in which something unforeseen happens."""

    def __init__(self, service: Any, fault: str) -> None:
        self._service = service
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        if name == self._fault:
            raise ZeroDivisionError("secret detail at /srv/secret.py")
        return getattr(self._service, name)


@pytest.mark.parametrize(("path", "body"), [
    ("/v1/completions", {"model": "demo", "prompt": "a"}),
    ("/v1/completions", {"model": "demo", "prompt": "a", "stream": True}),
    ("/invocations", {"inputs": "a"}),
])  # fmt: skip
def test_an_unforeseen_failure_tells_only_its_request_id(
    path: str, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    response = asyncio.run(_ask(path, body, "sampling"))
    assert response.status_code == 500
    assert "secret" not in response.text
    message = "The server failed unexpectedly. Its log says why, under request r-1."
    if path == "/invocations":
        assert response.json() == {"error_code": "INTERNAL_ERROR", "message": message}
    else:
        assert response.json()["error"] == {
            "message": message, "type": "server_error", "param": None, "code": "internal_error",
        }  # fmt: skip
    assert response.headers["x-request-id"] == "r-1"
    assert "Request r-1 failed unexpectedly." in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_an_unforeseen_failure_in_a_stream_ends_it_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mooring.protocol.openai.completion_answers import CompletionFormat

    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(CompletionFormat, "end", fail)
    body = {"model": "demo", "prompt": [97], "stream": True}
    response = asyncio.run(_ask("/v1/completions", body, "nothing"))
    assert response.status_code == 200
    text, error, done, rest = response.text.split("\n\n")
    assert '"text":"a"' in text
    assert error.startswith('data: {"error":{"message":"The server failed unexpectedly.')
    assert (done, rest) == ("data: [DONE]", "")
    assert "secret" not in response.text


async def _ask(path: str, body: Any, fault: str) -> httpx.Response:
    with echo_service() as service:
        host = ModelHost(IDENTITY)
        host.ready(Broken(service, fault))  # type: ignore[arg-type]
        transport = httpx.ASGITransport(create_app(host, ServerSettings()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            response = await client.post(path, json=body, headers={"x-request-id": "r-1"})
        return response


def test_the_form_follows_the_path_of_the_scope() -> None:
    record = RequestRecord()
    headers = [(b"host", b"x/v1/?")]
    scope = {"type": "http", "path": "/invocations", "headers": headers, "mooring.record": record}
    response = asyncio.run(report_error(Request(scope), errors.NotReady("no")))
    assert bytes(response.body).startswith(b'{"error_code"')
    assert record.error == "not_ready"
