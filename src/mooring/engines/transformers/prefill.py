"""One row's tokens on their way through the model, in pieces, before it joins the others."""

import torch
from transformers import DynamicCache

from mooring.engines.transformers.forward import Forward
from mooring.engines.transformers.prefixes import NOTHING, Layers, Prefix
from mooring.engines.transformers.row import Row


class Prefill:
    """Fills a cache of the row's own from where `prefix` ends, which must be before its last token.

    `logits` `[1, vocabulary]` are there once it is done.
    """

    def __init__(self, forward: Forward, row: Row, prefix: Prefix = NOTHING) -> None:
        self.row = row
        self.length = len(row.ids)
        self.cache = DynamicCache()
        self.logits: torch.Tensor | None = None
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
        begin, end = self._done, min(self._done + most, self.length)
        positions = torch.arange(begin, end, device=self._ids.device)[None]
        mask = torch.ones_like(self._ids[:, :end])
        logits = self._forward(self._ids[:, begin:end], mask, positions, self.cache)
        self._done = end
        if end == self.length:
            self.logits = logits
        return end - begin
