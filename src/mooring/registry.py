"""MLflow's tracking server and registry, with clear errors: names, reachability, refusals."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mooring.errors import (
    InvalidInput,
    MissingDependency,
    ModelNotFound,
    MooringError,
    RegistryError,
    RegistryUnreachable,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,199}")
_ALIAS = re.compile(r"(?!latest$)(?!v\d+$)[A-Za-z0-9_-]{1,255}", re.IGNORECASE)

_ANSWER_SECONDS = 5.0


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
    """Raise `RegistryUnreachable` at once if the tracking server does not answer.

    MLflow itself would retry in silence for minutes. A database is made ready for use.
    """
    import httpx
    import mlflow

    uri = tracking_uri or mlflow.get_tracking_uri()
    if uri.startswith("sqlite:"):
        _make_tables(uri)
    if not uri.startswith(("http://", "https://")):
        return
    try:
        httpx.get(f"{uri.rstrip('/')}/health", timeout=_ANSWER_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL):
        raise RegistryUnreachable(
            f"The tracking server must answer within {_ANSWER_SECONDS:g} s. Given: {uri}. "
            "Start it or choose another --tracking-uri."
        ) from None


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
        raise _translated(action, error.error_code, error.message) from None
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
    except (requests.RequestException, ConnectionError):
        raise RegistryUnreachable(
            f"MLflow could not {action}: the tracking server stopped answering. Try again."
        ) from None


def _translated(action: str, code: str, message: str) -> RegistryError:
    reason = message.strip().splitlines()[0] if message.strip() else code
    if code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND") or "not found" in reason:
        return ModelNotFound(f"MLflow could not {action}: {reason}")
    if "Max retries exceeded" in reason or "Connection refused" in reason:
        return RegistryUnreachable(
            f"MLflow could not {action}: the tracking server does not answer. Try again."
        )
    return RegistryError(f"MLflow could not {action}: {reason}")


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
