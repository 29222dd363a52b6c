"""What a model must answer: greedy tokens of plain transformers, kept to check engines against."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GoldenStep:
    """The best token ids with their log-probabilities, best first; the best one was taken.

    `spread` is the standard deviation of all logits of the step, the measure of how far apart
    tokens are.
    """

    top: tuple[tuple[int, float], ...]
    spread: float

    @property
    def token_id(self) -> int:
        """The token that was taken."""
        return self.top[0][0]

    def gap(self, token_id: int) -> float | None:
        """Return how many spreads `token_id` lies below the best; None if not among the best."""
        for other, logprob in self.top:
            if other == token_id:
                return (self.top[0][1] - logprob) / max(self.spread, 1e-6)
        return None


@dataclass(frozen=True, slots=True)
class GoldenAnswer:
    """A prompt and the steps of its greedy answer."""

    prompt_ids: tuple[int, ...]
    steps: tuple[GoldenStep, ...]

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens of the answer."""
        return tuple(step.token_id for step in self.steps)


@dataclass(frozen=True, slots=True)
class Golden:
    """Answers of plain transformers (its version) computed in `precision`."""

    precision: str
    transformers: str
    answers: tuple[GoldenAnswer, ...]
