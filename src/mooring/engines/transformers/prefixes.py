"""Keys and values of tokens that were read before, for requests that begin with the same ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

# A common beginning is found in whole blocks: small enough to lose little, large enough to be few.
BLOCK_TOKENS = 32

Layers = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first `length` tokens of a row: keys and values `[heads, length, head_dim]` by layer."""

    length: int
    layers: Layers


NOTHING = Prefix(0, [])


@dataclass(frozen=True, eq=False, slots=True)
class _Block:
    layers: Layers


# A block is found by the scope or block before it and its own tokens, compared one by one.
_Key = tuple[_Block | str, tuple[int, ...]]


class PrefixStore:
    """Holds blocks of at most `most_tokens` tokens together; the least recently used goes first.

    Requests find only what was kept in their own scope.
    """

    def __init__(self, most_tokens: int) -> None:
        self._most_blocks = most_tokens // BLOCK_TOKENS
        # The least recently used first, and each after all that follow it in their prompts.
        self._blocks: dict[_Key, _Block] = {}

    @property
    def tokens(self) -> int:
        """How many tokens it holds."""
        return len(self._blocks) * BLOCK_TOKENS

    def bound(self, most_tokens: int) -> None:
        """Hold at most so many tokens from now on."""
        self._most_blocks = max(0, most_tokens) // BLOCK_TOKENS
        self._shrink(self._most_blocks)

    def find(self, scope: str, ids: Sequence[int]) -> Prefix:
        """Return the longest beginning of `ids` that is known, in tensors of its own."""
        path = self._path(scope, ids)
        self._touch(path)
        if not path:
            return NOTHING
        blocks = [self._blocks[key].layers for key in path]
        layers = [
            (
                torch.cat([keys for keys, _ in parts], 1),
                torch.cat([values for _, values in parts], 1),
            )
            for parts in zip(*blocks, strict=True)
        ]
        return Prefix(len(path) * BLOCK_TOKENS, layers)

    def promises(self, scope: str, ids: Sequence[int], others: Iterable[Sequence[int]]) -> bool:
        """Say whether more of `ids` will be known once one of `others` of this scope is kept."""
        blocks = len(self._path(scope, ids)) + 1
        beginning = list(ids[: blocks * BLOCK_TOKENS])
        if blocks > self._most_blocks or len(beginning) < blocks * BLOCK_TOKENS:
            return False
        return any(list(other[: len(beginning)]) == beginning for other in others)

    def keep(self, scope: str, ids: Sequence[int], layers: Layers) -> None:
        """Copy what is new of `layers`, the keys and values of `ids`, as far as there is room."""
        path = self._path(scope, ids)
        known, most = len(path), min(len(ids) // BLOCK_TOKENS, self._most_blocks)
        new = [_copy(layers, place) for place in range(known, most)]
        self._touch(path)
        self._shrink(self._most_blocks - len(new))
        for place, block in enumerate(new, known):
            path.append(self._key(path, scope, ids, place))
            self._blocks[path[-1]] = block
        self._touch(path)

    def clear(self) -> None:
        """Forget all."""
        self._blocks.clear()

    def _path(self, scope: str, ids: Sequence[int]) -> list[_Key]:
        """Return the keys of the blocks that `ids` begin with, from the first on."""
        path: list[_Key] = []
        for place in range(len(ids) // BLOCK_TOKENS):
            key = self._key(path, scope, ids, place)
            if key not in self._blocks:
                break
            path.append(key)
        return path

    def _key(self, path: list[_Key], scope: str, ids: Sequence[int], place: int) -> _Key:
        begin = place * BLOCK_TOKENS
        before = self._blocks[path[-1]] if path else scope
        return before, tuple(ids[begin : begin + BLOCK_TOKENS])

    def _touch(self, path: list[_Key]) -> None:
        for key in reversed(path):
            self._blocks[key] = self._blocks.pop(key)

    def _shrink(self, most_blocks: int) -> None:
        while len(self._blocks) > most_blocks:
            del self._blocks[next(iter(self._blocks))]


def _copy(layers: Layers, place: int) -> _Block:
    begin = place * BLOCK_TOKENS
    cells = slice(begin, begin + BLOCK_TOKENS)
    return _Block([(keys[:, cells].clone(), values[:, cells].clone()) for keys, values in layers])
