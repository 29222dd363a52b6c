"""One row's tokens on their way through the model, in pieces, before it joins the others."""

import torch
from transformers import DynamicCache

from mooring.engines.transformers.forward import Forward
from mooring.engines.transformers.logprobs import describe, rows_at_once
from mooring.engines.transformers.prefixes import NOTHING, Layers, Prefix
from mooring.engines.transformers.row import Row
from mooring.generation import Likelihood


class Prefill:
    """Fills a cache of the row's own from where `prefix` ends: at most `row.skippable` tokens.

    `logits` `[1, vocabulary]` are there once it is done, and where the prompt's log-probabilities
    are owed, `likelihoods` of its tokens.
    """

    def __init__(self, forward: Forward, row: Row, prefix: Prefix = NOTHING) -> None:
        self.row = row
        self.length = len(row.ids)
        self.cache = DynamicCache()
        self.logits: torch.Tensor | None = None
        self.likelihoods: list[Likelihood] = []
        self._forward = forward
        self._ids = torch.tensor([row.ids], device=forward.device)
        self._done = prefix.length
        for index, (keys, values) in enumerate(prefix.layers):
            self.cache.update(keys[None], values[None], index)

    @property
    def layers(self) -> Layers:
        """The keys and values `[heads, length, head_dim]` read so far, by layer."""
        return [(layer.keys[0], layer.values[0]) for layer in self.cache.layers]

    def run(self, most: int) -> int:
        """Pass at most `most` further tokens through the model; return how many it were."""
        begin, end, count = self._next_piece(most)
        positions = torch.arange(begin, end, device=self._ids.device)[None]
        mask = torch.ones_like(self._ids[:, :end])
        logits = self._forward(self._ids[:, begin:end], mask, positions, self.cache, count)
        self._done = end
        if self._is_owed(begin):
            self._describe(begin, logits)
        if end == self.length:
            self.logits = logits[-1:]
        return end - begin

    def _next_piece(self, most: int) -> tuple[int, int, int]:
        """Return where the next piece begins and ends, and after how many of its tokens the scores
        are needed: after the last one, or after all where the next tokens are to be described.
        """
        begin, end = self._done, min(self._done + most, self.length)
        if self._is_owed(begin):
            end = min(end, begin + rows_at_once(self._forward.vocabulary_size))
            return begin, end, end - begin
        if self.row.sequence.owes_prompt and begin < self.row.skippable:
            end = min(end, self.row.skippable)
        return begin, end, 1

    def _is_owed(self, place: int) -> bool:
        """Whether the token that follows `place` is to be described."""
        last = len(self.row.sequence.request.prompt_ids) - 1
        return self.row.sequence.owes_prompt and self.row.skippable <= place < last

    def _describe(self, begin: int, logits: torch.Tensor) -> None:
        request = self.row.sequence.request
        told = request.prompt_ids[begin + 1 : begin + 1 + len(logits)]
        self.likelihoods += describe(logits[: len(told)], told, request.logprobs.prompt or 0)
