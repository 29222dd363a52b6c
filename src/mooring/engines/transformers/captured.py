"""The next token of all rows in tensors that keep their shape and place, so that a GPU can replay
the whole step: telling it of a step's many small kernels one by one takes longer than they take.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from mooring.engines.transformers.columns import ColumnLayer, Columns
from mooring.engines.transformers.forward import Forward
from mooring.engines.transformers.loader import LoadedModel

Run = Callable[[], torch.Tensor]

# What configurations call that layers see less than all tokens.
_WINDOWS = (
    "sliding_window",
    "attention_chunk_size",
    "layer_types",
    "attention_layers",
    "window_size",
)


def record(run: Run) -> Run:
    """Return what replays the kernels that `run` launches on this GPU, into the same tensors."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        run()  # libraries get ready in a first run, which cannot be recorded
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run()

    def replay() -> torch.Tensor:
        graph.replay()
        return output

    return replay


class CapturedStep:
    """Calls a model on one new token of every row in columns, as recorded once for each size that
    their buffers take.

    It runs over whole buffers, also over places without a row and columns without a token.
    `recorded` turns a step into its replay.
    """

    def __init__(self, loaded: LoadedModel, recorded: Callable[[Run], Run] = record) -> None:
        self._forward = Forward(loaded)
        self._recorded = recorded
        self._sees_all = _sees_all(loaded.model)
        self._inputs = _Inputs(0, self._forward.device)
        self._replay: Run | None = None
        # Weakly, so that buffers which the columns give up are free at once.
        self._buffer: Callable[[], torch.Tensor | None] = lambda: None

    def __call__(self, last: Sequence[int], columns: Columns) -> torch.Tensor:
        """Return the logits after the `last` token of every row, `[rows, vocabulary]`, which the
        next call overwrites. The tokens go to the next column, which must be `free`.
        """
        if self._replay is None or self._buffer() is not columns.layers[0].keys:
            self._replay = None
            self._inputs = _Inputs(len(columns.layers[0].keys), self._forward.device)
        if self._inputs.set(last, columns.starts, columns.end):
            _clear(columns)
        if self._replay is None:
            self._replay = self._recorded(self._step_over(columns))
            self._buffer = weakref.ref(columns.layers[0].keys)
        return self._replay()[: len(last)]

    def _step_over(self, columns: Columns) -> Run:
        inputs, length = self._inputs, None if self._sees_all else self._inputs.end
        cache = Cache(layers=[_FixedLayer(each, inputs.end, length) for each in columns.layers])
        numbers = torch.arange(columns.layers[0].keys.shape[2], device=self._forward.device)

        def step() -> torch.Tensor:
            mask = (numbers >= inputs.starts) & (numbers <= inputs.end)
            return self._forward(inputs.ids, mask.long(), inputs.end - inputs.starts, cache)

        return step


class _Inputs:
    """What changes from step to step: `ids` and `starts` `[rows, 1]`, and the column `end`."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.ids = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.starts = torch.zeros_like(self.ids)
        self.end = torch.zeros((), dtype=torch.long, device=device)
        self._last_end: int | None = None

    def set(self, ids: Sequence[int], starts: Sequence[int], end: int) -> bool:
        """Take those of the next step, and for places without a row any that can do no harm.

        Say whether columns from `end` on may hold what nobody may see.
        """
        unused = len(self.ids) - len(ids)
        rows = torch.tensor([[*ids, *[0] * unused], [*starts, *[end] * unused]])
        self.ids.copy_(rows[0, :, None])
        self.starts.copy_(rows[1, :, None])
        self.end.fill_(end)
        begins_anew = self._last_end is None or end <= self._last_end
        self._last_end = end
        return begins_anew


class _FixedLayer(CacheLayerMixin):  # type: ignore[misc]
    """A layer of the columns as one pass over all of it sees it; new tokens go to column `end`.

    It says that it holds `length` tokens before; where it does not matter, all columns but one,
    which is no tensor: some models reckon with it in ways that cannot be recorded.
    """

    is_compileable = True
    is_sliding = False

    def __init__(self, layer: ColumnLayer, end: torch.Tensor, length: torch.Tensor | None) -> None:
        super().__init__()
        self.keys, self.values = layer.keys, layer.values
        self.is_initialized = True
        self._end = end[None]
        self._length = self.keys.shape[2] - 1 if length is None else length

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: the buffers are there."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new column; return all of them."""
        self.keys.index_copy_(2, self._end, key_states)
        self.values.index_copy_(2, self._end, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> torch.Tensor | int:
        """Return the column from which masks and windows are reckoned."""
        return self._length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length of a mask over all columns, and its offset 0."""
        return self.keys.shape[2], 0

    def get_max_length(self) -> int:
        """Return how many columns there are."""
        return self.keys.shape[2]


def _sees_all(model: Any) -> bool:
    """Say whether it is known that every layer sees all tokens which the mask shows."""
    own_code = not type(model).__module__.startswith("transformers.")
    text = model.config.get_text_config(decoder=True)
    windows = (getattr(text, name, None) for name in _WINDOWS)
    return not own_code and not any(windows)


def _clear(columns: Columns) -> None:
    """Make finite what is masked all the same: even unseen, NaN times nothing would be NaN."""
    for layer in columns.layers:
        for buffer in (layer.keys, layer.values):
            buffer[:, :, columns.end :] = 0
            buffer[columns.count :] = 0
