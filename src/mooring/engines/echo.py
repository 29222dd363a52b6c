"""A deterministic engine that answers with the prompt: for tests and load runs of all above it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from mooring.engines.contract import Capabilities
from mooring.engines.loop import EngineLoop
from mooring.engines.sequence import Sequence
from mooring.errors import RequestFailed
from mooring.generation import MAX_TOP_LOGPROBS, Failed, Finished, GenerationRequest, Likelihood


def _never(request: GenerationRequest) -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class EchoSettings:
    """How the echo engine behaves.

    Each step takes `seconds_per_token` and gives every running sequence one token. `fail_after`
    says after how many tokens a request fails, `breaks_at_step` at which step, counted from 0, the
    engine raises; None for never.
    """

    seconds_per_token: float = 0.0
    max_running: int = 32
    context_length: int = 4096
    vocabulary_size: int = 100_000
    fail_after: Callable[[GenerationRequest], int | None] = _never
    breaks_at_step: int | None = None


class EchoEngine(EngineLoop):
    """Echoes each prompt once and stops; with `ignore_eos` over and over up to `max_tokens`."""

    def __init__(
        self,
        settings: EchoSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__()
        self._settings = settings or EchoSettings()
        self._clock = clock
        self._sleep = sleep
        self._step_ends = 0.0
        self._echoing: list[Sequence] = []

    def _open(self) -> Capabilities:
        return Capabilities(
            name="echo",
            version="1",
            device="cpu",
            precision="exact",
            context_length=self._settings.context_length,
            vocabulary_size=self._settings.vocabulary_size,
            max_running=self._settings.max_running,
            top_logprobs=MAX_TOP_LOGPROBS,
            prompt_logprobs=True,
        )

    def _step(self, joining: list[Sequence]) -> None:
        going_on = [s for s in self._echoing if not s.ended]
        self._pace(idle=not going_on)
        if self._steps == self._settings.breaks_at_step:
            raise RuntimeError(f"Told to break at step {self._steps}.")
        for sequence in joining:
            sequence.start()
        self._echoing = going_on + joining
        for sequence in self._echoing:
            self._advance(sequence)

    def _free(self) -> None:
        self._echoing = []

    def _pace(self, *, idle: bool) -> None:
        now = self._clock()
        began = now if idle else self._step_ends
        self._step_ends = max(began + self._settings.seconds_per_token, now)
        if self._step_ends > now:
            self._sleep(self._step_ends - now)

    def _advance(self, sequence: Sequence) -> None:
        request, position = sequence.request, sequence.generated
        if sequence.owes_prompt:
            self._tell_prompt(sequence)
        if sequence.ended:
            return
        if position == self._settings.fail_after(request):
            sequence.end(Failed(RequestFailed(f"Told to fail after {position} tokens.")))
        elif position < len(request.prompt_ids) or self._goes_on(sequence):
            token_id = request.prompt_ids[position % len(request.prompt_ids)]
            sequence.push(token_id, (), self._likelihood(token_id, request.logprobs.answer))
        else:
            sequence.end(Finished("stop", sequence.cached_tokens))

    def _goes_on(self, sequence: Sequence) -> bool:
        sampling = sequence.request.sampling
        return sampling.ignore_eos or sequence.generated < sampling.min_tokens

    def _tell_prompt(self, sequence: Sequence) -> None:
        request = sequence.request
        told = request.prompt_ids[request.logprobs.prompt_begin :]
        likelihoods = [self._likelihood(token_id, request.logprobs.prompt) for token_id in told]
        sequence.read_prompt([likelihood for likelihood in likelihoods if likelihood])

    def _likelihood(self, token_id: int, most: int | None) -> Likelihood | None:
        """Make one up: the ids that follow are ever less likely."""
        if most is None:
            return None
        size = self._settings.vocabulary_size
        logprob = -(1 + token_id % 8) / 8
        top = [((token_id + n) % size, logprob - n / 2) for n in range(min(most, size))]
        return Likelihood(logprob, tuple(top), rank=1)
