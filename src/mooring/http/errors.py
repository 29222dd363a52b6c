"""Where an error meets a status code: one table, and its bodies in both protocols."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from mooring import errors
from mooring.http.identification import record_of
from mooring.protocol.invocations import invocation_error
from mooring.protocol.openai.answers import error_body

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Meaning:
    """How an error is reported: HTTP status, OpenAI `type` and MLflow `error_code`."""

    status: int
    openai_type: str
    mlflow_code: str


_INVALID = Meaning(400, "invalid_request_error", "INVALID_PARAMETER_VALUE")
_MALFORMED = Meaning(400, "invalid_request_error", "BAD_REQUEST")
_ABSENT = Meaning(404, "invalid_request_error", "RESOURCE_DOES_NOT_EXIST")
_UNKNOWN = Meaning(401, "invalid_request_error", "UNAUTHENTICATED")
_FORBIDDEN = Meaning(403, "invalid_request_error", "PERMISSION_DENIED")
_LIMITED = Meaning(429, "rate_limit_error", "RESOURCE_EXHAUSTED")
_LATE = Meaning(504, "server_error", "DEADLINE_EXCEEDED")
_UNAVAILABLE = Meaning(503, "server_error", "TEMPORARILY_UNAVAILABLE")
_BROKEN = Meaning(500, "server_error", "INTERNAL_ERROR")

MEANINGS: dict[type[errors.MooringError], Meaning] = {
    errors.InvalidInput: _INVALID,
    errors.InvalidJson: _MALFORMED,
    errors.InvalidParameter: _INVALID,
    errors.UnsupportedParameter: _INVALID,
    errors.InvalidPrompt: _INVALID,
    errors.ContextExceeded: _INVALID,
    errors.UnknownModel: _ABSENT,
    errors.Refused: _FORBIDDEN,
    errors.Unauthenticated: _UNKNOWN,
    errors.Forbidden: _FORBIDDEN,
    errors.RateLimited: _LIMITED,
    errors.BenchmarkFailed: _BROKEN,
    errors.EngineError: _BROKEN,
    errors.RequestFailed: _BROKEN,
    errors.EngineStopped: _UNAVAILABLE,
    errors.OutOfMemory: _UNAVAILABLE,
    errors.EngineDisagrees: _BROKEN,
    errors.ServerBusy: _UNAVAILABLE,
    errors.NotReady: _UNAVAILABLE,
    errors.DeadlineExceeded: _LATE,
    errors.MooringError: _BROKEN,
    errors.SourceError: _BROKEN,
    errors.SourceNotFound: _BROKEN,
    errors.BrokenSource: _BROKEN,
    errors.UnsafeSource: _BROKEN,
    errors.ConversionFailed: _BROKEN,
    errors.HubUnreachable: _BROKEN,
    errors.RegistryError: _BROKEN,
    errors.ModelNotFound: _BROKEN,
    errors.RegistryUnreachable: _BROKEN,
    errors.CorruptArtifact: _BROKEN,
    errors.MissingDependency: _BROKEN,
    errors.NotEnough: _BROKEN,
    errors.NotEnoughSpace: _BROKEN,
    errors.NotEnoughMemory: _BROKEN,
}

_HTTP_CODES: dict[int, str] = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
}
_HTTP_MESSAGES: dict[int, str] = {
    404: "There is nothing at this path. The routes are listed in the documentation.",
    405: "This path does not take this method. The `allow` header says which it takes.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One failure as a client sees it."""

    meaning: Meaning
    code: str
    message: str
    param: str | None = None
    retry_seconds: int | None = None

    def body(self, path: str) -> Mapping[str, object]:
        """Return the error object of the protocol spoken at `path`."""
        if path == "/invocations":
            return invocation_error(self.message, self.meaning.mlflow_code)
        return self.openai_body()

    def openai_body(self) -> dict[str, object]:
        """Return OpenAI's error object."""
        kind = self.meaning.openai_type
        return error_body(self.message, kind, param=self.param, code=self.code)

    def response(self, path: str, headers: Mapping[str, str] | None = None) -> Response:
        """Return the answer in the protocol spoken at `path`."""
        body = self.body(path)
        status = self.meaning.status
        own = {}
        if status in (429, 503):
            own["retry-after"] = str(self.retry_seconds or RETRY_SECONDS)
        if status == 401:
            own["www-authenticate"] = "Bearer"
        return JSONResponse(body, status, {**(headers or {}), **own})


def problem_of(error: errors.MooringError) -> Problem:
    """Say what a client may know: what broke inside is logged, not told."""
    meaning = next(MEANINGS[kind] for kind in type(error).__mro__ if kind in MEANINGS)
    if isinstance(error, errors.InvalidInput | errors.Refused | errors.EngineError):
        return Problem(meaning, error.code, error.message, error.param, error.retry_seconds)
    logger.error("A request failed.", exc_info=error)
    return Problem(meaning, error.code, "The server failed. Its log says why.")


def unexpected_problem(request_id: str) -> Problem:
    """Say nothing of a failure nobody foresaw but where to look for it."""
    message = f"The server failed unexpectedly. Its log says why, under request {request_id}."
    return Problem(_BROKEN, "internal_error", message)


def refusal(scope: Scope, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer that tells a request of its problem, and note it."""
    record_of(scope).error = problem.code
    return problem.response(scope["path"], headers)


async def report_error(request: Request, error: Exception) -> Response:
    """Answer with a `MooringError`."""
    assert isinstance(error, errors.MooringError)
    return refusal(request.scope, problem_of(error))


async def report_http_error(request: Request, error: Exception) -> Response:
    """Answer with what the HTTP layer refuses."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    mlflow_code = "RESOURCE_DOES_NOT_EXIST" if status == 404 else "BAD_REQUEST"
    meaning = Meaning(status, "invalid_request_error", mlflow_code)
    message = _HTTP_MESSAGES.get(status, error.detail)
    problem = Problem(meaning, _HTTP_CODES.get(status, "http_error"), message)
    return refusal(request.scope, problem, error.headers)


async def note_disconnect(request: Request, error: Exception) -> Response:
    """Note that the client has left; nobody reads this answer."""
    assert isinstance(error, ClientDisconnect)
    record_of(request.scope).client_left = True
    return Response(status_code=400)
