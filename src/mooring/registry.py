"""MLflow's tracking server and registry, with clear errors: names, reachability, refusals."""

import hashlib
import math
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.errors import (
    InvalidInput,
    MissingDependency,
    ModelNotFound,
    MooringError,
    RegistryError,
    RegistryUnreachable,
)

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,199}")
_ALIAS = re.compile(r"(?!latest$)(?!v\d+$)[A-Za-z0-9_-]{1,255}", re.IGNORECASE)

_ANSWER_SECONDS = 5.0

_UNAUTHENTICATED, _FORBIDDEN, _TOO_LARGE = 401, 403, 413
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
# How MLflow's client says that the server answered, but not as it should.
_STATUS = re.compile(r"too many (\d{3}) error responses|failed with error code (\d{3}) ")


def check_model_name(name: str) -> None:
    """Raise `InvalidInput` unless MLflow will take `name` and no path can be made of it."""
    if not _NAME.fullmatch(name) or ".." in name or name != name.strip():
        raise InvalidInput(
            "A model name must have 1 to 200 letters, digits, spaces, '.', '_' or '-', and begin "
            f"with a letter or digit. Given: {name[:80]!r}. Choose another --name.",
            param="name",
        )


def check_alias(alias: str) -> None:
    """Raise `InvalidInput` unless MLflow will take `alias`."""
    if not _ALIAS.fullmatch(alias):
        raise InvalidInput(
            "An alias must have 1 to 255 letters, digits, '_' or '-', and be neither 'latest' nor "
            f"like 'v1'. Given: {alias[:80]!r}. Choose another --alias.",
            param="alias",
        )


def check_reachable(tracking_uri: str | None) -> None:
    """Raise `RegistryUnreachable` at once if the tracking server does not answer, or only with
    errors; `RegistryError` if it wants to know who asks. A database is made ready for use.
    """
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = tracking_uri or mlflow.get_tracking_uri()
    if uri.startswith("sqlite:"):
        _make_tables(uri)
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with one_request_each(_ANSWER_SECONDS):
            MlflowClient(uri, uri).search_experiments(max_results=1)
    except MlflowException as error:
        reason = server_failure(error)
        if reason is None or not (reason.passing or reason.status == _UNAUTHENTICATED):
            return  # it answers; what is asked of it next may still be allowed
        if reason.status is not None:
            raise _refusal("use its server", reason) from None
        raise RegistryUnreachable(
            f"The tracking server must answer within {_ANSWER_SECONDS:g} s. Given: {uri}. "
            "Start it or choose another --tracking-uri."
        ) from None


@contextmanager
def one_request_each(seconds: float) -> Iterator[None]:
    """Have MLflow's client ask once in the block and wait `seconds` at most, and say all failures.

    By itself it waits two minutes and asks eight times, in silence.
    """
    with _environment(
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
        MLFLOW_HTTP_REQUEST_TIMEOUT=str(math.ceil(seconds)),
    ):
        yield


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _make_tables(uri: str) -> None:
    """Have MLflow make or upgrade its tables, one process at a time: at once they break them."""
    from filelock import FileLock
    from mlflow import MlflowClient

    name = hashlib.sha256(f"{Path.cwd()} {uri}".encode()).hexdigest()[:32]
    lock = FileLock(Path(tempfile.gettempdir()) / f"mooring-{os.getuid()}-{name}.lock")
    with registry_failure("open its database"), lock:
        MlflowClient(uri, uri).search_registered_models(max_results=1)
        MlflowClient(uri, uri).search_experiments(max_results=1)


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A logged model, with the experiment and the store that it belongs to."""

    tracking_uri: str
    experiment_id: str
    model_id: str


def find_logged_model(
    uri: str, name: str, version: str | None, tracking_uri: str | None
) -> LoggedModel:
    """Return the logged model behind `uri`, which stands for this version of a registered model.

    Raises `InvalidInput` where there is none: for folders and artifacts of runs.
    """
    import mlflow

    with registry_failure(f"find the logged model of {uri}"), using_tracking_uri(tracking_uri):
        client = mlflow.MlflowClient()
        source = uri
        if uri.startswith("models:/") and version is not None:
            source = client.get_model_version(name, version).source or ""
        model_id = source.removeprefix("models:/")
        if not model_id.startswith("m-"):
            raise InvalidInput(
                "MLflow traces belong to a logged model, and there is none behind "
                f"{uri[:200]}. Serve models:/NAME/VERSION, or leave --trace-sample-rate out."
            )
        experiment_id = client.get_logged_model(model_id).experiment_id
        return LoggedModel(mlflow.get_tracking_uri(), experiment_id, model_id)


@contextmanager
def registry_failure(action: str) -> Iterator[None]:
    """Turn MLflow's errors in the block into ours; `action` completes "MLflow could not ..."."""
    import requests
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MooringError:
        raise
    except MlflowException as error:
        raise _translated(action, error) from None
    except ImportError as error:
        raise MissingDependency(
            f"MLflow could not {action}: the store needs the package {error.name!r}, which is not "
            "installed. MLflow's documentation of artifact stores says what to install."
        ) from None
    except (SQLAlchemyError, CommandError):
        raise RegistryError(
            f"MLflow could not {action}: its database cannot be used. If another version of MLflow "
            "wrote it, run `mlflow db upgrade`; else move it away or choose another --tracking-uri."
        ) from None
    except (requests.RequestException, ConnectionError) as error:
        reason = server_failure(error) or ServerFailure(None)
        raise _refusal(action, reason) from None


@dataclass(frozen=True, slots=True)
class ServerFailure:
    """A request to MLflow's server failed: with this HTTP status, or without any answer."""

    status: int | None

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return self.status is None or self.status in _PASSING

    def __str__(self) -> str:
        """Say what the server does, to follow "the tracking server"."""
        return "does not answer" if self.status is None else f"answers with status {self.status}"


def server_failure(error: Exception) -> ServerFailure | None:
    """Return what the server did where `error` says that, None for MLflow's own refusals."""
    import requests

    if isinstance(error, requests.RequestException):
        answer = error.response
        return ServerFailure(None if answer is None else answer.status_code)
    message = str(error)
    status = _STATUS.search(message)
    if status is not None:
        return ServerFailure(int(status[1] or status[2]))
    # MLflow raises its own error while it handles that of the HTTP client.
    if isinstance(error.__context__, requests.RequestException):
        return ServerFailure(None)
    return None


def _translated(action: str, error: "MlflowException") -> RegistryError:
    reason = server_failure(error)
    if reason is not None:
        return _refusal(action, reason)
    message: str = error.message.strip()
    said = message.splitlines()[0] if message else error.error_code
    if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND") or "not found" in said:
        return ModelNotFound(f"MLflow could not {action}: {said}")
    return RegistryError(f"MLflow could not {action}: {said}")


def _refusal(action: str, reason: ServerFailure) -> RegistryError:
    error = RegistryUnreachable if reason.passing else RegistryError
    return error(f"MLflow could not {action}: the tracking server {reason}. {advice(reason)}")


def advice(reason: ServerFailure) -> str:
    """Say what to do about it."""
    if reason.passing:
        return "Try again."
    if reason.status in (_UNAUTHENTICATED, _FORBIDDEN):
        return (
            "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, "
            "to those of somebody who may do that."
        )
    if reason.status == _TOO_LARGE:
        return "Raise the limit for bodies in that server, or in the proxy before it."
    return "Check --tracking-uri and what stands in between."


@contextmanager
def using_tracking_uri(tracking_uri: str | None) -> Iterator[None]:
    """Make `tracking_uri` MLflow's current one: much of MLflow knows no other way to be told.

    None leaves MLflow's own choice. The setting is the whole process's while the block runs.
    """
    import mlflow

    if tracking_uri is None:
        yield
        return
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
