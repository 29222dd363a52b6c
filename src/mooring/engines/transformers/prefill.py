"""One row's tokens on their way through the model, in pieces, before it joins the others."""

from dataclasses import dataclass

import torch
from transformers import DynamicCache

from mooring.engines.transformers.forward import Forward
from mooring.engines.transformers.logprobs import describe, rows_at_once
from mooring.engines.transformers.prefixes import NOTHING, Layers, Prefix
from mooring.engines.transformers.row import Row
from mooring.generation import Likelihood


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of one row, `ids` `[1, tokens]`, that follow the `begin` tokens in its `cache`.

    Scores are needed after the last `count` of them.
    """

    cache: DynamicCache
    ids: torch.Tensor
    begin: int
    count: int = 1

    @property
    def tokens(self) -> int:
        """How many there are."""
        return self.ids.shape[1]

    @property
    def end(self) -> int:
        """How many the cache holds afterwards."""
        return self.begin + self.tokens

    @property
    def positions(self) -> torch.Tensor:
        """Where they stand in their row, `[1, tokens]`."""
        return torch.arange(self.begin, self.end, device=self.ids.device)[None]


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

    def next_piece(self, most: int) -> Piece:
        """Return at most `most` further tokens; where the prompt's next tokens are to be described,
        with scores after all of them.
        """
        begin, end = self._done, min(self._done + most, self.length)
        if self._is_owed(begin):
            end = min(end, begin + rows_at_once(self._forward.vocabulary_size))
            return Piece(self.cache, self._ids[:, begin:end], begin, end - begin)
        if self.row.sequence.owes_prompt and begin < self.row.skippable:
            end = min(end, self.row.skippable)
        return Piece(self.cache, self._ids[:, begin:end], begin)

    def run(self, piece: Piece) -> None:
        """Pass a piece through the model by itself."""
        mask = torch.ones_like(self._ids[:, : piece.end])
        self.take(piece, self._forward(piece.ids, mask, piece.positions, self.cache, piece.count))

    def take(self, piece: Piece, logits: torch.Tensor) -> None:
        """Note that a piece has been read, with these logits `[count, vocabulary]`."""
        self._done = piece.end
        if self._is_owed(piece.begin):
            self._describe(piece.begin, logits)
        if piece.end == self.length:
            self.logits = logits[-1:]

    def rewind(self) -> None:
        """Forget what a pass that failed may have left in the cache."""
        for layer in self.cache.layers:
            layer.crop(self._done - layer.get_seq_length())

    def _is_owed(self, place: int) -> bool:
        """Whether the token that follows `place` is to be described."""
        last = len(self.row.sequence.request.prompt_ids) - 1
        return self.row.sequence.owes_prompt and self.row.skippable <= place < last

    def _describe(self, begin: int, logits: torch.Tensor) -> None:
        request = self.row.sequence.request
        told = request.prompt_ids[begin + 1 : begin + 1 + len(logits)]
        self.likelihoods += describe(logits[: len(told)], told, request.logprobs.prompt or 0)
