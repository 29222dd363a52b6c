"""One sequence on its way through an engine: its request, its tokens, its one end."""

import logging
from collections.abc import Collection, Iterable

from mooring.engines.contract import Emit
from mooring.generation import (
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Likelihood,
    PromptRead,
    Started,
    Token,
)

logger = logging.getLogger(__name__)


class Sequence:
    """A submitted request with what it has generated; ends exactly once.

    Only the engine's own thread calls its methods; any thread may set `cancelled`. An engine calls
    `start` when it begins with the sequence, and sets `cached_tokens` before that, or before the
    end where it learns it late. One that `owes_prompt` is told how likely the prompt is, by
    `read_prompt`, before its first token.
    """

    def __init__(self, request: GenerationRequest, emit: Emit, max_tokens: int) -> None:
        self.request = request
        self.max_tokens = max_tokens
        self.generated = len(request.generated_ids)
        self.owes_prompt = request.logprobs.prompt is not None
        self.cached_tokens = 0
        self.started = False
        self.cancelled = False
        self.ended = False
        self._emit = emit

    def start(self) -> None:
        """Say that the sequence waits no longer; later calls say nothing."""
        if not self.started:
            self.started = True
            self._send(Started(self.cached_tokens))

    def read_prompt(self, likelihoods: Iterable[Likelihood]) -> None:
        """Send how likely the prompt is, and end where no token is wanted."""
        self.start()
        self.owes_prompt = False
        self._send(PromptRead(tuple(likelihoods)))
        if self.max_tokens == 0:
            self.end(Finished("length", self.cached_tokens))

    def push(
        self,
        token_id: int,
        end_token_ids: Collection[int],
        likelihood: Likelihood | None = None,
        *,
        complete: bool = False,
    ) -> None:
        """Take the next token: send it, and end at an end token, at the limit, or if `complete`."""
        self.start()
        if token_id in end_token_ids and not self.request.sampling.ignore_eos:
            self.end(Finished("stop", self.cached_tokens, token_id))
            return
        self.generated += 1
        self._send(Token(token_id, likelihood))
        if complete:
            self.end(Finished("stop", self.cached_tokens))
        elif self.generated >= self.max_tokens:
            self.end(Finished("length", self.cached_tokens))

    def end(self, event: Finished | Failed) -> None:
        """Send the last event; later ends are ignored."""
        if not self.ended:
            self.ended = True
            self._send(event)

    def _send(self, event: Event) -> None:
        try:
            self._emit(event)
        except Exception:  # a broken receiver must not stop the others
            logger.exception("A receiver of request %s failed; it is dropped.", self.request.id)
            self.ended = True
