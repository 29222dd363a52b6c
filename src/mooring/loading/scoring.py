"""The MLflow door: a python model whose every call ends in the same service as the server's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode
from mlflow.pyfunc import PythonModel, PythonModelContext

from mooring.errors import (
    EngineError,
    EngineStopped,
    InvalidInput,
    MooringError,
    NotReady,
    OutOfMemory,
    ServerBusy,
)
from mooring.loading.bundle import open_folder
from mooring.loading.loaded import LoadedModel
from mooring.loading.start import UNBOUNDED, start_service
from mooring.settings import EngineSettings

_ERROR_CODES: dict[type[MooringError], str] = {
    InvalidInput: "INVALID_PARAMETER_VALUE",
    ServerBusy: "TEMPORARILY_UNAVAILABLE",
    NotReady: "TEMPORARILY_UNAVAILABLE",
    OutOfMemory: "TEMPORARILY_UNAVAILABLE",
    EngineStopped: "TEMPORARILY_UNAVAILABLE",
    EngineError: "INTERNAL_ERROR",
    MooringError: "INTERNAL_ERROR",
}


class ScoringError(MlflowException):
    """A Mooring error as MLflow reports it.

    MLflow's scoring server overwrites the message of what a model raises with one that repeats the
    whole input; this keeps the first message.
    """

    def __init__(self, error: MooringError) -> None:
        code = next(name for kind, name in _ERROR_CODES.items() if isinstance(error, kind))
        super().__init__(error.message, error_code=ErrorCode.Value(code))

    @property
    def message(self) -> str:
        """The error's own words."""
        words: str = self._message
        return words

    @message.setter
    def message(self, text: str) -> None:
        self._message = self.__dict__.get("_message", text)


class _Doors:
    """The methods MLflow calls.

    They live outside the `PythonModel` subclass because MLflow wraps methods defined there with a
    check of type hints that cannot describe all the forms of input taken here.
    """

    _model: LoadedModel

    def load_context(self, context: PythonModelContext) -> None:
        """Verify the artifact and load the model; `model_config` may hold `EngineSettings`."""
        with _as_mlflow_error():
            bundle = open_folder(Path(context.artifacts["manifest"]).parent.parent)
            settings = _engine_settings(context.model_config or {})
            self._model = LoadedModel(start_service(bundle, settings, UNBOUNDED))

    def predict(
        self,
        context: PythonModelContext,
        model_input: Any,
        params: Mapping[str, Any] | None = None,
    ) -> dict[str, list[str]]:
        """Return `{"candidates": [...]}`: `n` texts for each row, in order."""
        with _as_mlflow_error():
            return {"candidates": self._model.predict(model_input, params)}

    def predict_stream(
        self,
        context: PythonModelContext,
        model_input: Any,
        params: Mapping[str, Any] | None = None,
    ) -> Iterator[str]:
        """Yield the answer to one row piece by piece; the pieces join to what `predict` gives."""
        with _as_mlflow_error():
            yield from self._model.stream(model_input, params)


class ScoringModel(_Doors, PythonModel):
    """What MLflow loads: one model, answering all threads of the process together."""


def _engine_settings(config: Mapping[str, Any]) -> EngineSettings:
    try:
        return EngineSettings(**config)
    except TypeError:
        known = ", ".join(EngineSettings.__dataclass_fields__)
        raise InvalidInput(
            f"`model_config` may hold: {known}. Given: {', '.join(map(str, config))}."
        ) from None


@contextmanager
def _as_mlflow_error() -> Iterator[None]:
    try:
        yield
    except MooringError as error:
        raise ScoringError(error) from None
