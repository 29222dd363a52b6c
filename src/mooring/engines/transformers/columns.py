"""The key/value cache of rows that run side by side: one buffer per layer, one column per step."""

from collections.abc import Callable
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from mooring.engines.transformers.prefixes import Layers

_LEAST_COLUMNS = 64


class ColumnLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, `[rows, heads, columns, head_dim]`.

    A forward pass sees `rows` and the columns from `first` on; its own token goes to `end`.
    """

    is_sliding = False

    def __init__(self, like: Any) -> None:
        super().__init__()
        self.keys = _empty(like.keys)
        self.values = _empty(like.values)
        self.is_initialized = True
        self.rows, self.first, self.end = slice(0), 0, 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: the buffers are there from the beginning."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new columns; return all that the pass may see."""
        begin, self.end = self.end, self.end + key_states.shape[2]
        self.keys[self.rows, :, begin : self.end] = key_states
        self.values[self.rows, :, begin : self.end] = value_states
        seen = (self.rows, slice(None), slice(self.first, self.end))
        return self.keys[seen], self.values[seen]

    def get_seq_length(self) -> int:
        """Return how many columns can be seen."""
        return self.end - self.first

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length of a mask for `query_length` new columns, and its offset 0."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """Return -1: there is no fixed length."""
        return -1


class Columns(Cache):  # type: ignore[misc]
    """A cache in which every row ends at the same column and begins at one of its own.

    What lies left of a row's beginning is finite and must be masked. The buffers grow as needed up
    to `most_tokens` cells (rows times columns); who asks for more must ask `fits` first.
    `resizing` is told how many cells they will have, before they have them.
    """

    def __init__(
        self, like: Any, most_tokens: int, resizing: Callable[[int], object] = lambda cells: None
    ) -> None:
        super().__init__(layers=[ColumnLayer(layer) for layer in like.layers])
        self.most_tokens = most_tokens
        self._resizing = resizing
        self._starts: list[int] = []
        self._end = 0
        self._row_capacity = self._column_capacity = 0

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._starts)

    @property
    def starts(self) -> list[int]:
        """The column of each row's first token."""
        return list(self._starts)

    @property
    def end(self) -> int:
        """The column of every row's next token."""
        return self._end

    @property
    def width(self) -> int:
        """The length of the longest row, in tokens."""
        return self._end - min(self._starts, default=self._end)

    @property
    def used(self) -> float:
        """The share of all cells that the rows take, 0 to 1."""
        return self.count * self.width / self.most_tokens

    def fits(self, rows: int, width: int) -> bool:
        """Say whether so many rows, the longest of `width` tokens, are within the bound."""
        return rows * width <= self.most_tokens

    def join(self, prefilled: Any, length: int) -> int:
        """Add a row from a cache of its own that holds `length` tokens; return its place."""
        width = max(self.width, length)
        if not self._starts:
            self._end = width
        cramped = self.count == self._row_capacity or self._end > self._column_capacity
        if cramped or length > self._end:
            self._relay(self.count + 1, width)
        row, start = self.count, self._end - length
        for layer, own in zip(self.layers, prefilled.layers, strict=True):
            for buffer, tokens in ((layer.keys, own.keys), (layer.values, own.values)):
                buffer[row, :, :start] = 0
                buffer[row, :, start : self._end] = tokens[0]
        self._starts.append(start)
        return row

    def of(self, row: int) -> Layers:
        """Return the keys and values `[heads, length, head_dim]` of one row, by layer, as views."""
        own = (row, slice(None), slice(self._starts[row], self._end))
        return [(layer.keys[own], layer.values[own]) for layer in self.layers]

    def leave(self, row: int) -> None:
        """Drop a row; the last one takes its place."""
        last = self.count - 1
        for layer in self.layers if row != last else ():
            for buffer in (layer.keys, layer.values):
                buffer[row, :, : self._end] = buffer[last, :, : self._end]
        self._starts[row] = self._starts[last]
        del self._starts[last]

    def clear(self) -> None:
        """Drop all rows and the buffers."""
        self._starts.clear()
        self._end = self._row_capacity = self._column_capacity = 0
        for layer in self.layers:
            layer.keys, layer.values = _empty(layer.keys), _empty(layer.values)
        self._resizing(0)

    def make_room(self) -> int:
        """Make sure that every row can take one token more; return how many are `free`."""
        if self._end == self._column_capacity:
            self._relay(self.count, self.width)
        return self.free

    @property
    def free(self) -> int:
        """How many columns the buffers have left."""
        return self._column_capacity - self._end

    def show(self, rows: range, new: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """Let the next pass of `new` tokens a row see these rows; return its mask and positions.

        The mask `[rows, columns + new]` is 1 from each row's beginning to its last new token;
        `[rows, new]` are the positions of these. There must be as many columns `free`.
        """
        chosen = slice(rows.start, rows.stop)
        starts = self._starts[chosen]
        first = min(starts)
        for layer in self.layers:
            layer.rows, layer.first, layer.end = chosen, first, self._end
        begins = torch.tensor(starts, device=self.layers[0].keys.device)[:, None]
        columns = torch.arange(first, self._end + new, device=begins.device)
        return (columns >= begins).long(), columns[-new:] - begins

    def advance(self, new: int = 1) -> None:
        """Keep the first `new` columns that the last pass wrote in all rows."""
        self._end += new

    def _relay(self, rows: int, width: int) -> None:
        """Lay the rows anew in larger, or only emptier, buffers.

        Of the columns to spare, half are on the left, for longer rows to come; a row that is alone
        gets them all on its right, for its drafts.
        """
        self._row_capacity, self._column_capacity = self._capacity(rows, width)
        spare = self._column_capacity - width
        end = width + (spare // 2 if rows > 1 else 0)
        self._resizing(self._row_capacity * self._column_capacity)
        living = self.width
        for layer in self.layers:
            layer.keys = self._moved(layer.keys, living, end)
            layer.values = self._moved(layer.values, living, end)
        self._starts = [start + end - self._end for start in self._starts]
        self._end = end

    def _capacity(self, rows: int, width: int) -> tuple[int, int]:
        """Return room to grow for rows and columns, or all that the bound allows."""
        columns = max(_LEAST_COLUMNS, _power_of_two(width + width // 4 + 1))
        if _power_of_two(rows) * columns <= self.most_tokens:
            return _power_of_two(rows), columns
        return rows, min(columns, self.most_tokens // rows)

    def _moved(self, buffer: torch.Tensor, living: int, end: int) -> torch.Tensor:
        _, heads, _, head_dim = buffer.shape
        # Memory that is touched for the first time is dear, so columns to come are not: they are
        # written before they are seen. Only what lies left of rows must be finite at once.
        new = buffer.new_empty(self._row_capacity, heads, self._column_capacity, head_dim)
        rows = slice(0, self.count)
        new[rows, :, : end - living] = 0
        new[rows, :, end - living : end] = buffer[rows, :, self._end - living : self._end]
        return new


def _empty(like: torch.Tensor) -> torch.Tensor:
    _, heads, _, head_dim = like.shape
    return like.new_empty(0, heads, 0, head_dim)


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
