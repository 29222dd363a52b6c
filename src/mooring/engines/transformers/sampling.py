"""Chooses the next token of every row of logits, each by its own request's parameters.

Order: bias, penalties, allowed tokens, banned sequences, no end before the least tokens, grammar,
temperature, min_p, top_k, top_p, draw. Greedy rows stop after the grammar.
"""

from collections import deque
from collections.abc import Collection, Sequence

import torch

from mooring.engines.transformers.constraint import Constraint, begin_masks
from mooring.generation import SamplingParams

_LEAST_TOP_P = 1e-9


class RowSampler:
    """Chooses the tokens of one sequence; remembers what it needs of prompt and answer.

    `device` is where the logits are. With a seed, a token depends on this row alone. Tokens keep
    to `constraint`, none of `end_token_ids` comes before the least number of tokens, and none
    completes one of the `banned` sequences.
    """

    def __init__(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        vocabulary_size: int,
        device: torch.device,
        constraint: Constraint | None = None,
        end_token_ids: Collection[int] = (),
        banned: Collection[tuple[int, ...]] = (),
    ) -> None:
        self.constraint = constraint
        self._params = params
        self._greedy = params.greedy or params.top_k == 1
        self._bias = _bias_tensors(params.logit_bias, device)
        self._allowed = _ids_tensor(params.allowed_token_ids, device)
        ends = set(params.stop_token_ids).union(() if params.ignore_eos else end_token_ids)
        self._too_early = _ids_tensor(ends, device) if params.min_tokens else None
        self._banned = tuple(banned)
        # The newest tokens of the answer, as many as a banned sequence may begin with.
        self._newest = deque[int](maxlen=max((len(ids) - 1 for ids in banned), default=0))
        self._missing = params.min_tokens if ends else 0
        self._seen: torch.Tensor | None = None
        self._counts: torch.Tensor | None = None
        self._generator: torch.Generator | None = None
        if params.repetition_penalty != 1.0:
            self._seen = torch.zeros(vocabulary_size, dtype=torch.bool, device=device)
            self._seen[torch.tensor(prompt_ids, device=device)] = True
        if params.presence_penalty or params.frequency_penalty:
            self._counts = torch.zeros(vocabulary_size, device=device)
        if not self._greedy:
            self._generator = _generator(params.seed)

    @property
    def plain(self) -> bool:
        """Whether the token is simply the most likely one."""
        return self._greedy and not self.changes

    @property
    def changes(self) -> bool:
        """Whether `score` returns anything but the logits."""
        own = (self._bias, self._seen, self._counts, self._allowed, self.constraint)
        return self._missing > 0 or bool(self._banned) or any(part is not None for part in own)

    def score(self, logits: torch.Tensor) -> torch.Tensor:
        """Return one row of float32 logits `[vocabulary]` with all that changes them applied."""
        if self._bias is not None:
            logits = logits.index_add(0, *self._bias)
        if self._seen is not None:
            penalty = self._params.repetition_penalty
            penalised = torch.where(logits < 0, logits * penalty, logits / penalty)
            logits = torch.where(self._seen, penalised, logits)
        if self._counts is not None:
            logits = logits - self._params.frequency_penalty * self._counts
            logits = logits - self._params.presence_penalty * (self._counts > 0)
        if self._allowed is not None:
            nothing = torch.full_like(logits, -torch.inf)
            logits = nothing.index_copy(0, self._allowed, logits[self._allowed])
        if self._banned:
            last = _ids_tensor(self._completing(), logits.device)
            logits = logits if last is None else logits.index_fill(0, last, -torch.inf)
        if self._missing > 0 and self._too_early is not None:
            logits = logits.index_fill(0, self._too_early, -torch.inf)
        return logits if self.constraint is None else self.constraint.apply(logits)

    def _completing(self) -> set[int]:
        """Return the tokens that would complete a banned sequence now."""
        newest = tuple(self._newest)
        return {
            ids[-1]
            for ids in self._banned
            if len(ids) == 1 or newest[-(len(ids) - 1) :] == ids[:-1]
        }

    def pick(self, scores: torch.Tensor, most_likely: int) -> int:
        """Return the next token for `scores`, of which `most_likely` is the highest."""
        if self._generator is None:
            return most_likely
        uniform = _uniform(self._generator)
        scores = scores.float()
        below = scores - scores[most_likely]
        probabilities = torch.softmax(below / self._params.temperature, dim=-1)
        probabilities, token_ids = _narrow(probabilities, self._params)
        place = _draw(probabilities, uniform)
        return place if token_ids is None else int(token_ids[place])

    def observe(self, token_id: int) -> None:
        """Remember a token of the answer."""
        self._count(token_id)
        if self.constraint is not None:
            self.constraint.take(token_id)

    def _count(self, token_id: int) -> None:
        self._missing -= 1
        self._newest.append(token_id)
        if self._seen is not None:
            self._seen[token_id] = True
        if self._counts is not None:
            self._counts[token_id] += 1

    def resume(self, generated_ids: Sequence[int]) -> None:
        """Go on as if this sampler had chosen `generated_ids`: one draw for each.

        The constraint knows of them by itself.
        """
        for token_id in generated_ids:
            self._count(token_id)
            if self._generator is not None:
                _uniform(self._generator)


def choose_tokens(logits: torch.Tensor, samplers: Sequence[RowSampler]) -> list[int | None]:
    """Return a token for each row of `logits` `[rows, vocabulary]`; None where none is possible.

    No token is possible where the highest score is not finite (NaN, infinite, or all -inf).
    """
    tokens = _most_likely(logits)
    scores = {row: logits[row] for row, sampler in enumerate(samplers) if not sampler.plain}
    changed = [row for row in scores if samplers[row].changes]
    if changed:
        for row in changed:
            scores[row] = samplers[row].score(scores[row].float())
        highest = _most_likely(torch.stack([scores[row] for row in changed]))
        for row, token_id in zip(changed, highest, strict=True):
            tokens[row] = token_id
    for row in scores:
        most_likely = tokens[row]
        if most_likely is not None:
            tokens[row] = _choose(samplers[row], scores[row], most_likely)
    constraints = [samplers[row].constraint for row in changed if tokens[row] is not None]
    begin_masks(constraint for constraint in constraints if constraint is not None)
    return tokens


def _most_likely(scores: torch.Tensor) -> list[int | None]:
    """Return the token with the highest score of each row; None where that is not finite."""
    highest = scores.argmax(dim=-1, keepdim=True)
    possible = scores.gather(-1, highest).isfinite().squeeze(-1).tolist()
    tokens = highest.squeeze(-1).tolist()
    return [token if finite else None for token, finite in zip(tokens, possible, strict=True)]


def _choose(sampler: RowSampler, scores: torch.Tensor, most_likely: int) -> int:
    token_id = sampler.pick(scores, most_likely)
    sampler.observe(token_id)
    return token_id


def _narrow(
    probabilities: torch.Tensor, params: SamplingParams
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return what min_p, top_k and top_p leave, and its token ids (None: all, in order)."""
    token_ids = None
    if params.min_p > 0:
        least = params.min_p * probabilities.max()
        probabilities = probabilities.where(probabilities >= least, 0)
    if 0 < params.top_k < len(probabilities):
        probabilities, token_ids = probabilities.topk(params.top_k)
    if params.top_p < 1:
        probabilities = probabilities / probabilities.sum()
        if token_ids is None:
            probabilities, token_ids = _sorted(probabilities, params.top_p)
        before = probabilities.cumsum(0) - probabilities
        probabilities = probabilities.where(before < max(params.top_p, _LEAST_TOP_P), 0)
    return probabilities, token_ids


def _sorted(probabilities: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the most likely first, with their token ids, at least those that hold `top_p`.

    Tokens below an equal share of the rest hold less than the rest, so they need no sorting.
    """
    share_of_rest = (1 - top_p) / len(probabilities)
    token_ids = (probabilities >= share_of_rest).nonzero().squeeze(-1)
    ordered, order = probabilities[token_ids].sort(descending=True, stable=True)
    return ordered, token_ids[order]


def _draw(probabilities: torch.Tensor, uniform: float) -> int:
    """Return the place of `uniform` (0 <= u < 1) in the cumulated probabilities."""
    wide = torch.float32 if probabilities.device.type == "mps" else torch.float64
    cumulated = probabilities.to(wide).cumsum(0)
    place = int(torch.searchsorted(cumulated, uniform * cumulated[-1], right=True))
    # Rounding may give the end itself: then the last place that is possible.
    return place if place < len(cumulated) else int(probabilities.nonzero()[-1])


def _bias_tensors(
    bias: tuple[tuple[int, float], ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor] | None:
    if not bias:
        return None
    ids, values = zip(*bias, strict=True)
    return torch.tensor(ids, device=device), torch.tensor(values, device=device)


def _ids_tensor(ids: Collection[int], device: torch.device) -> torch.Tensor | None:
    return torch.tensor(sorted(set(ids)), device=device) if ids else None


def _uniform(generator: torch.Generator) -> float:
    return torch.rand((), generator=generator, dtype=torch.float64).item()


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
