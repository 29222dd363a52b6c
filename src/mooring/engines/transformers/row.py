"""A sequence on its way through the model: the tokens it has, and how it chooses the next."""

from collections.abc import Collection

from mooring.engines.sequence import Sequence
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.lookup import Lookup
from mooring.engines.transformers.sampling import RowSampler
from mooring.errors import EngineError, RequestFailed
from mooring.generation import Failed, Likelihood


class Row:
    """A sequence with its sampler and all its token ids; `number` tells older from younger.

    What is known of one that has `failed` may be wrong. `trust` is the share of its `lookup`'s
    guesses that were right of late.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        sequence: Sequence,
        end_token_ids: Collection[int],
        number: int = 0,
    ) -> None:
        request = sequence.request
        self.sequence = sequence
        self.number = number
        self.failed = False
        self.trust = 0.0
        self._lookup: Lookup | None = None
        self.ids = list(request.input_ids)
        self.sampler = RowSampler(
            request.prompt_ids,
            request.sampling,
            loaded.vocabulary_size,
            loaded.model.device,
            loaded.grammars.constrain(request) if loaded.grammars else None,
            end_token_ids,
            request.banned,
        )
        self.sampler.resume(request.generated_ids)

    @property
    def ready(self) -> bool:
        """Whether its next token can be chosen as soon as the model has read it."""
        return self.sampler.constraint is None or self.sampler.constraint.ready

    def wait(self, seconds: float) -> None:
        """Wait until it is ready, at most so long."""
        if self.sampler.constraint is not None:
            self.sampler.constraint.wait(seconds)

    @property
    def left(self) -> int:
        """How many tokens it may still generate."""
        return self.sequence.max_tokens - self.sequence.generated

    @property
    def lookup(self) -> Lookup:
        """What guesses its next tokens."""
        if self._lookup is None:
            self._lookup = Lookup(self.ids)
        return self._lookup

    @property
    def begun(self) -> bool:
        """Whether it has chosen a token here."""
        return len(self.ids) > len(self.sequence.request.input_ids)

    @property
    def skippable(self) -> int:
        """How many of its first tokens may be skipped if their keys and values are known.

        Never the last one; nor, while the prompt's log-probabilities are owed, those before them.
        """
        sequence = self.sequence
        if sequence.owes_prompt:
            return sequence.request.logprobs.prompt_begin - 1
        return len(self.ids) - 1

    def take(
        self,
        token_id: int | None,
        end_token_ids: frozenset[int],
        likelihood: Likelihood | None = None,
    ) -> None:
        """Add the next token and send it; None if none was possible."""
        constraint = self.sampler.constraint
        if token_id is None:
            failure = None if constraint is None else constraint.failure
            self.fail(_no_token_possible() if failure is None else _grammar_failed(failure))
        else:
            self.ids.append(token_id)
            complete = constraint is not None and constraint.complete
            self.sequence.push(token_id, end_token_ids, likelihood, complete=complete)

    def fail(self, error: EngineError) -> None:
        """End with `error`."""
        self.failed = True
        self.sequence.end(Failed(error))


def _no_token_possible() -> RequestFailed:
    return RequestFailed(
        "No token is possible: the model's scores for this request are not finite. "
        "Change the prompt or the sampling parameters."
    )


def _grammar_failed(reason: str) -> RequestFailed:
    return RequestFailed(
        f"This answer could be kept to its grammar no further: {reason}. Simplify the grammar."
    )
