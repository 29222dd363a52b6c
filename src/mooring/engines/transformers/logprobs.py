"""How likely tokens are by a model's raw scores, for the rows that ask."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from mooring.generation import LEAST_LOGPROB, Likelihood

# Scores are widened to float32 a few rows at a time: at most so many numbers at once.
_MOST_NUMBERS = 2**24


def rows_at_once(vocabulary_size: int) -> int:
    """Return how many rows of scores may be looked at together, for the sake of memory."""
    return max(1, _MOST_NUMBERS // vocabulary_size)


def describe(logits: torch.Tensor, token_ids: Sequence[int], most: int) -> list[Likelihood]:
    """Return how likely each token is by its row of `logits` `[rows, vocabulary]`, with `most` of
    the most likely ones; raise `ArithmeticError` where scores are no numbers.
    """
    described: list[Likelihood] = []
    for rows in torch.split(logits, rows_at_once(logits.shape[-1])):
        described += _describe(rows.float(), token_ids[len(described) :][: len(rows)], most)
    return described


def describe_chosen(
    logits: torch.Tensor, token_ids: Sequence[int | None], wanted: Sequence[int | None]
) -> list[Likelihood | None]:
    """Return how likely the token of each row is, None for rows that want nothing or have none."""
    places = [
        place
        for place, (token_id, most) in enumerate(zip(token_ids, wanted, strict=True))
        if token_id is not None and most is not None
    ]
    described: list[Likelihood | None] = [None] * len(token_ids)
    if not places:
        return described
    chosen = [token_ids[place] or 0 for place in places]
    found = describe(logits[places], chosen, max(wanted[place] or 0 for place in places))
    for place, likelihood in zip(places, found, strict=True):
        described[place] = replace(likelihood, top=likelihood.top[: wanted[place] or 0])
    return described


def _describe(scores: torch.Tensor, token_ids: Sequence[int], most: int) -> list[Likelihood]:
    ids = torch.tensor(token_ids, device=scores.device)[:, None]
    totals = scores.logsumexp(-1, keepdim=True)
    scores_of_own = scores.gather(-1, ids)
    own = (scores_of_own - totals).squeeze(-1).tolist()
    ranks = (scores >= scores_of_own).sum(-1).tolist()
    best = scores.topk(min(most, scores.shape[-1]))
    tops = zip(best.indices.tolist(), (best.values - totals).tolist(), strict=True)
    return [
        Likelihood(
            _bounded(logprob),
            tuple((token_id, _bounded(value)) for token_id, value in zip(*top, strict=True)),
            rank,
        )
        for logprob, top, rank in zip(own, tops, ranks, strict=True)
    ]


def _bounded(logprob: float) -> float:
    if math.isnan(logprob):
        raise ArithmeticError("The model's scores are no numbers.")
    return max(logprob, LEAST_LOGPROB)
