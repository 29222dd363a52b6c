"""The contract between service and engines: token ids in, events out.

An engine runs sequences side by side. It knows nothing of text, HTTP or MLflow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mooring.errors import EngineStopped, InvalidParameter, UnsupportedParameter
from mooring.generation import (
    MAX_TOP_LOGPROBS,
    Event,
    GenerationRequest,
    Grammar,
    GrammarKind,
    LogprobsWanted,
    SamplingParams,
)

Emit = Callable[[Event], None]

_UNSET = SamplingParams()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a started engine can do.

    `context_length` and `max_running` are in tokens and sequences; `precision` is the dtype it
    computes in and `device` where, as shown to people. `unsupported` names the sampling parameters
    that it cannot honour: a request that sets one of them is refused. `grammars` are the kinds of
    grammar that it can keep answers to. `top_logprobs` is how many of the most likely tokens it
    can name with each token's log-probability, None if it knows no log-probabilities;
    `prompt_logprobs` says whether it knows those of the prompt too, and `tells_ids` whether it can
    tell the token ids of its answers.
    """

    name: str
    version: str
    device: str
    precision: str
    context_length: int
    vocabulary_size: int
    max_running: int
    unsupported: tuple[str, ...] = ()
    grammars: tuple[GrammarKind, ...] = ()
    top_logprobs: int | None = None
    prompt_logprobs: bool = False
    tells_ids: bool = True

    def check(
        self, sampling: SamplingParams, grammar: Grammar | None, logprobs: LogprobsWanted
    ) -> None:
        """Raise an `InvalidInput` for what no prompt could be answered with, named."""
        self._check_token_ids(sampling)
        self._check_support(sampling)
        self._check_grammar(grammar, sampling)
        self._check_logprobs(logprobs)

    def check_tells_ids(self) -> None:
        """Raise `UnsupportedParameter` where answers have no token ids."""
        if not self.tells_ids:
            raise UnsupportedParameter(
                f"The {self.name} engine cannot honour `return_token_ids`: it answers with text. "
                "Leave it out, or serve the model with another engine.",
                param="return_token_ids",
            )

    def _check_support(self, sampling: SamplingParams) -> None:
        for name in self.unsupported:
            if getattr(sampling, name) != getattr(_UNSET, name):
                raise UnsupportedParameter(
                    f"The {self.name} engine cannot honour `{name}`. Leave it out, or serve "
                    "the model with another engine.",
                    param=name,
                )

    def _check_token_ids(self, sampling: SamplingParams) -> None:
        biased = [token_id for token_id, _ in sampling.logit_bias]
        given = {
            "logit_bias": biased,
            "stop_token_ids": sampling.stop_token_ids,
            "allowed_token_ids": sampling.allowed_token_ids,
        }
        for name, ids in given.items():
            for token_id in ids:
                if not 0 <= token_id < self.vocabulary_size:
                    raise InvalidParameter(
                        f"`{name}` token ids must be < {self.vocabulary_size}, the model's "
                        f"vocabulary. Given: {token_id}. Use this model's own tokenizer.",
                        param=name,
                    )

    def _check_logprobs(self, wanted: LogprobsWanted) -> None:
        if wanted.answer is None and wanted.prompt is None:
            return
        if self.top_logprobs is None or (wanted.prompt is not None and not self.prompt_logprobs):
            what = "`logprobs`"
            if self.top_logprobs is not None:
                what += " of a prompt (`echo`, `prompt_logprobs`)"
            raise UnsupportedParameter(
                f"The {self.name} engine cannot honour {what}. Leave it out, or serve the "
                "model with another engine.",
                param="logprobs",
            )
        given = max(wanted.answer or 0, wanted.prompt or 0)
        most = min(self.top_logprobs, MAX_TOP_LOGPROBS)
        if not 0 <= given <= most:
            raise InvalidParameter(
                f"The {self.name} engine names at most {most} of the most likely tokens. "
                f"Given: {given}. Ask for fewer (`top_logprobs`, `logprobs`), or serve the model "
                "with another engine.",
                param="logprobs",
            )

    def _check_grammar(self, grammar: Grammar | None, sampling: SamplingParams) -> None:
        """Raise `UnsupportedParameter` where answers cannot be kept to `grammar`."""
        if grammar is None:
            return
        if grammar.kind not in self.grammars:
            raise UnsupportedParameter(
                f"The {self.name} engine cannot keep answers to a grammar of the kind "
                f"{grammar.kind}. Leave `{grammar.param}` out, or serve the model with another "
                "engine.",
                param=grammar.param,
            )
        if sampling.ignore_eos:
            raise UnsupportedParameter(
                f"`ignore_eos` does not go with `{grammar.param}`, which says where an answer "
                "ends. Leave one of them out.",
                param="ignore_eos",
            )


@dataclass(frozen=True, slots=True)
class CacheUse:
    """How full the cache of keys and values is, and how often it was too full.

    `used` is the share that running sequences take, 0 to 1; `preemptions` counts sequences that
    were put back since the engine started, to make room. Both are 0 where there is no bound.
    """

    used: float = 0.0
    preemptions: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """Sequences an engine holds now, and the steps it has made since it started."""

    running: int
    waiting: int
    steps: int
    cache: CacheUse = CacheUse()


class Engine(Protocol):
    """Runs sequences. All methods may be called from any thread; none blocks but start and close.

    For each submitted request `emit` is called in order with one `Started` once it waits no longer,
    a `PromptRead` where that was asked for, any number of `Token`, and then exactly one `Finished`
    or `Failed`, from the engine's own thread; it must return at once. One that ends while it waits
    has no `Started`.
    """

    def start(self) -> Capabilities:
        """Load the model and begin to run; block until ready or raise a `MooringError`."""

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        """Queue one sequence; raise `EngineStopped`, or `InvalidInput` if it could only fail."""

    def cancel(self, request_id: str) -> None:
        """End a sequence within one step with `Finished("cancelled")`; unknown ids are ignored."""

    def load(self) -> Load:
        """Count what runs and what waits."""

    def close(self) -> None:
        """End all sequences with `Failed(EngineStopped)` and free the model; safe to call twice."""


class EngineObserver(Protocol):
    """Hears how an engine fares that may die and be started again; called from any thread."""

    def engine_restarting(self) -> None:
        """Note that the engine has died and is being started again."""

    def engine_restarted(self) -> None:
        """Note that the engine is back."""

    def engine_failed(self, error: EngineStopped) -> None:
        """Note that the engine has died for good."""
