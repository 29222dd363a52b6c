"""The contract between service and engines: token ids in, events out.

An engine runs sequences side by side. It knows nothing of text, HTTP or MLflow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mooring.errors import EngineStopped, UnsupportedParameter
from mooring.generation import Event, GenerationRequest, Grammar, GrammarKind, SamplingParams

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a started engine can do.

    `context_length` and `max_running` are in tokens and sequences; `precision` is the dtype it
    computes in and `device` where, as shown to people. `unsupported` names the sampling parameters
    that it cannot honour: a request that sets one of them is refused. `grammars` are the kinds of
    grammar that it can keep answers to. `top_logprobs` is how many of the most likely tokens it
    can name with each token's log-probability, None if it knows no log-probabilities;
    `prompt_logprobs` says whether it knows those of the prompt too.
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

    def check_grammar(self, grammar: Grammar | None, sampling: SamplingParams) -> None:
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
