"""The best of several completions: those that the model found most likely, token by token."""

import math
from collections.abc import Sequence
from dataclasses import replace

from mooring.errors import InvalidParameter, UnsupportedParameter
from mooring.generation import TextToken
from mooring.service.stream import Completion
from mooring.service.text_service import TextService


def best_of(
    completions: Sequence[Completion], kept: int, *, skipped: int, told: bool
) -> list[Completion]:
    """Return the `kept` completions with the highest mean log-probability, the best first.

    The first `skipped` tokens of each are a prompt that it repeats. Unless they are to be `told`,
    the log-probabilities are left out.
    """
    ranked = sorted(completions, key=lambda one: -_mean(one.logprobs[skipped:]))[:kept]
    return ranked if told else [replace(one, logprobs=()) for one in ranked]


def check_best(generated: int, service: TextService) -> None:
    """Raise an `InvalidInput` naming `best_of` where so many cannot be generated and compared."""
    limit, engine = service.limits.max_n, service.capabilities
    if generated > limit:
        raise InvalidParameter(
            f"`best_of` must be <= {limit}. Given: {generated}.", param="best_of"
        )
    if engine.top_logprobs is None:
        raise UnsupportedParameter(
            f"The {engine.name} engine cannot honour `best_of`: it does not say how likely its "
            "answers are. Leave it out, or serve the model with another engine.",
            param="best_of",
        )


def _mean(tokens: Sequence[TextToken]) -> float:
    """Return the mean; an answer without a token is the last that anybody wants."""
    known = [token.logprob for token in tokens if token.logprob is not None]
    return math.fsum(known) / len(known) if known else -math.inf
