"""The one error tree: every failure Mooring reports on purpose.

::

    MooringError
      + InvalidInput                what the caller sent breaks a rule
        - InvalidJson               a body that is not JSON, or not an object
        - InvalidParameter          a sampling parameter or field, by name
        - UnsupportedParameter      a known field that asks for what is not offered
        - InvalidPrompt             a prompt, message or row
        - ContextExceeded           prompt longer than the model's context
        - UnknownModel              the server does not serve that model name
      + SourceError                 the model to package cannot be used
        - SourceNotFound            no such folder, hub id or revision
        - BrokenSource              weights, tokenizer or config missing or damaged
        - UnsafeSource              pickles, untrusted code, links out of the tree
        - ConversionFailed          cannot be converted for another engine
        - HubUnreachable            the hub does not answer                    (retry)
      + RegistryError               the MLflow store refused
        - ModelNotFound             no such model, version or alias
        - RegistryUnreachable       the tracking server does not answer        (retry)
      + CorruptArtifact             the artifact differs from its manifest
      + MissingDependency           a package this needs is not installed
      + NotEnough                   the machine is too small
        - NotEnoughSpace            disk
        - NotEnoughMemory           memory
      + Refused                     the caller may not have it, or not now
        - Unauthenticated           no key, or a wrong one
        - Forbidden                 a host or an origin that is not let in
        - RateLimited               the caller's own limit is reached          (retry)
      + EngineError                 generation failed
        - RequestFailed             this request only
        - EngineStopped             the engine is gone                         (retry)
        - EngineDisagrees           other tokens than the model's golden ones
        - ServerBusy                no free slot                               (retry)
        - NotReady                  the model is loading or the server ending  (retry)
        - DeadlineExceeded          it took longer than it may                 (retry)
      + BenchmarkFailed             what was to be measured did not answer      (retry)

Messages name the rule, the limit, what was given and what to do.
"""

from typing import ClassVar


class MooringError(Exception):
    """Root of every error Mooring raises on purpose.

    `code` is a stable machine-readable name; `retryable` says whether the same call may succeed
    later without a change; `param` names the field at fault where there is one; `retry_seconds`
    says after how long to try again where that can be told.
    """

    code: ClassVar[str] = "mooring_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str, *, param: str | None = None, retry_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_seconds = retry_seconds


class InvalidInput(MooringError):
    """What the caller sent breaks a rule; sending it again cannot help."""

    code = "invalid_input"


class InvalidParameter(InvalidInput):
    """A parameter is unknown, of the wrong type or out of range."""

    code = "invalid_parameter"


class InvalidJson(InvalidInput):
    """A body is not valid JSON, or not an object."""

    code = "invalid_json"


class UnsupportedParameter(InvalidInput):
    """A field is known, but asks for something that is not offered."""

    code = "unsupported_parameter"


class InvalidPrompt(InvalidInput):
    """A prompt, a message or a row of input cannot be answered."""

    code = "invalid_prompt"


class ContextExceeded(InvalidInput):
    """The prompt leaves no room in the model's context."""

    code = "context_length_exceeded"


class UnknownModel(InvalidInput):
    """The request names a model that this server does not serve."""

    code = "model_not_found"


class SourceError(MooringError):
    """The model to package cannot be used as it is."""

    code = "source_error"


class SourceNotFound(SourceError):
    """No such folder, hub id or revision."""

    code = "source_not_found"


class BrokenSource(SourceError):
    """Weights, tokenizer or configuration are missing or damaged."""

    code = "broken_source"


class UnsafeSource(SourceError):
    """Using the model would run code or read files that were not trusted."""

    code = "unsafe_source"


class ConversionFailed(SourceError):
    """The model cannot be converted for another engine, or does not give its tokens there."""

    code = "conversion_failed"


class HubUnreachable(SourceError):
    """The hub does not answer, and the model is not in the local cache."""

    code = "hub_unreachable"
    retryable = True


class RegistryError(MooringError):
    """The MLflow store refused an operation."""

    code = "registry_error"


class ModelNotFound(RegistryError):
    """No such registered model, version, alias, run or artifact."""

    code = "model_uri_not_found"


class RegistryUnreachable(RegistryError):
    """The MLflow tracking server does not answer."""

    code = "registry_unreachable"
    retryable = True


class CorruptArtifact(MooringError):
    """A file of the artifact is missing or differs from the manifest."""

    code = "corrupt_artifact"


class MissingDependency(MooringError):
    """A package that this operation needs is not installed."""

    code = "missing_dependency"


class NotEnough(MooringError):
    """The machine is too small for what was asked."""

    code = "not_enough"


class NotEnoughSpace(NotEnough):
    """The disk has no room."""

    code = "not_enough_space"


class NotEnoughMemory(NotEnough):
    """The weights or the cache do not fit into memory."""

    code = "not_enough_memory"


class Refused(MooringError):
    """The caller may not have what it asks for, or not now."""

    code = "refused"


class Unauthenticated(Refused):
    """The request has no API key, or one that the server does not know."""

    code = "invalid_api_key"


class Forbidden(Refused):
    """The request is for a host, or comes from an origin, that the server does not let in."""

    code = "forbidden"


class RateLimited(Refused):
    """The caller has reached a limit of its own key."""

    code = "rate_limit_exceeded"
    retryable = True


class EngineError(MooringError):
    """Generation failed on our side."""

    code = "engine_error"


class RequestFailed(EngineError):
    """This one request could not be generated; others go on."""

    code = "generation_failed"


class EngineStopped(EngineError):
    """The engine is closed or died; nothing was generated after that."""

    code = "engine_stopped"
    retryable = True


class OutOfMemory(EngineError):
    """There was no memory for this request; others go on."""

    code = "out_of_memory"
    retryable = True


class EngineDisagrees(EngineError):
    """The engine gives other tokens than plain transformers did when the model was packaged."""

    code = "engine_disagrees"


class ServerBusy(EngineError):
    """The server holds as many sequences, or waiting prompt tokens, as it may."""

    code = "server_busy"
    retryable = True


class NotReady(EngineError):
    """The model is still loading, or the server is ending."""

    code = "not_ready"
    retryable = True


class DeadlineExceeded(EngineError):
    """The answer, or its next token, did not come in time."""

    code = "deadline_exceeded"
    retryable = True


class BenchmarkFailed(MooringError):
    """What was to be measured did not answer, or not as it must; the figures mean nothing."""

    code = "benchmark_failed"
    retryable = True


def make_error(kind: str, message: str, *, param: str | None = None) -> MooringError:
    """Return the error whose class is named `kind`: for errors that crossed a process boundary."""
    classes: list[type[MooringError]] = [MooringError]
    for known in classes:
        classes += known.__subclasses__()
    named = {known.__name__: known for known in classes}
    return named.get(kind, MooringError)(message, param=param)
