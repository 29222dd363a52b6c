"""Chooses the next token of every row of logits, each by its own request's parameters.

Order: bias, penalties, temperature, min_p, top_k, top_p, draw. Greedy rows stop after penalties.
"""

from collections.abc import Sequence

import torch

from mooring.generation import SamplingParams


class RowSampler:
    """Chooses the tokens of one sequence; remembers what it needs of prompt and answer.

    `device` is where the logits are. With a seed, a token depends on this row alone.
    """

    def __init__(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        vocabulary_size: int,
        device: torch.device,
    ) -> None:
        self._params = params
        self._bias = _bias_tensors(params.logit_bias, device)
        self._seen: torch.Tensor | None = None
        self._counts: torch.Tensor | None = None
        self._generator: torch.Generator | None = None
        if params.repetition_penalty != 1.0:
            self._seen = torch.zeros(vocabulary_size, dtype=torch.bool, device=device)
            self._seen[torch.tensor(prompt_ids, device=device)] = True
        if params.presence_penalty or params.frequency_penalty:
            self._counts = torch.zeros(vocabulary_size, device=device)
        if not params.greedy:
            self._generator = _generator(params.seed)

    @property
    def plain(self) -> bool:
        """Whether the token is simply the most likely one."""
        changed = self._bias is not None or self._seen is not None or self._counts is not None
        return self._params.greedy and not changed

    def score(self, logits: torch.Tensor) -> torch.Tensor:
        """Return one row of float32 logits `[vocabulary]` with bias and penalties applied."""
        if self._bias is not None:
            logits = logits.index_add(0, *self._bias)
        if self._seen is not None:
            penalty = self._params.repetition_penalty
            penalised = torch.where(logits < 0, logits * penalty, logits / penalty)
            logits = torch.where(self._seen, penalised, logits)
        if self._counts is not None:
            logits = logits - self._params.frequency_penalty * self._counts
            logits = logits - self._params.presence_penalty * (self._counts > 0)
        return logits

    def pick(self, scores: torch.Tensor, most_likely: int) -> int:
        """Return the next token for `scores`, of which `most_likely` is the highest."""
        if self._generator is None:
            return most_likely
        probabilities = torch.softmax(scores / self._params.temperature, dim=-1)
        probabilities = _narrow(probabilities, self._params)
        uniform = torch.rand((), generator=self._generator, dtype=torch.float64).item()
        return _draw(probabilities, uniform, most_likely)

    def observe(self, token_id: int) -> None:
        """Remember a token of the answer."""
        if self._seen is not None:
            self._seen[token_id] = True
        if self._counts is not None:
            self._counts[token_id] += 1


def choose_tokens(logits: torch.Tensor, samplers: Sequence[RowSampler]) -> list[int | None]:
    """Return a token for each row of `logits` `[rows, vocabulary]`; None where none is possible.

    No token is possible where the highest score is not finite (NaN, infinite, or all -inf).
    """
    if all(sampler.plain for sampler in samplers):
        scores = logits
    else:
        rows = logits.float()
        scores = torch.stack([s.score(row) for s, row in zip(samplers, rows, strict=True)])
    highest = scores.argmax(dim=-1, keepdim=True)
    possible = scores.gather(-1, highest).isfinite().squeeze(-1).tolist()
    most_likely = highest.squeeze(-1).tolist()
    return [
        _choose(sampler, row, token) if finite else None
        for sampler, row, token, finite in zip(samplers, scores, most_likely, possible, strict=True)
    ]


def _choose(sampler: RowSampler, scores: torch.Tensor, most_likely: int) -> int:
    token_id = sampler.pick(scores, most_likely)
    sampler.observe(token_id)
    return token_id


def _narrow(probabilities: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Set to 0 what min_p, top_k and top_p leave out; ties with the k-th token stay in."""
    if params.min_p > 0:
        least = params.min_p * probabilities.max()
        probabilities = probabilities.where(probabilities >= least, 0)
    if 0 < params.top_k < len(probabilities):
        least = probabilities.topk(params.top_k).values[-1]
        probabilities = probabilities.where(probabilities >= least, 0)
    if params.top_p < 1:
        probabilities = _nucleus(probabilities, params.top_p)
    return probabilities


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keep the smallest set of tokens that holds `top_p` of the whole.

    Tokens below an equal share of the rest can only be outside, so they are not sorted.
    """
    total = probabilities.sum()
    share_of_rest = (1 - top_p) * total / len(probabilities)
    candidates = (probabilities >= share_of_rest).nonzero().squeeze(-1)
    ordered, order = probabilities[candidates].sort(descending=True, stable=True)
    before = ordered.cumsum(0) - ordered
    kept = candidates[order[before < top_p * total]]
    return torch.zeros_like(probabilities).index_copy(0, kept, probabilities[kept])


def _draw(probabilities: torch.Tensor, uniform: float, most_likely: int) -> int:
    """Return the token at `uniform` (0 <= u < 1) of the cumulated probabilities."""
    wide = torch.float32 if probabilities.device.type == "mps" else torch.float64
    cumulated = probabilities.to(wide).cumsum(0)
    token_id = int(torch.searchsorted(cumulated, uniform * cumulated[-1], right=True))
    return token_id if token_id < len(probabilities) else most_likely


def _bias_tensors(
    bias: tuple[tuple[int, float], ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor] | None:
    if not bias:
        return None
    ids, values = zip(*bias, strict=True)
    return torch.tensor(ids, device=device), torch.tensor(values, device=device)


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
