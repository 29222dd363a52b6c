"""One pass over tokens of many sequences laid end to end: the next one of every row that runs, and
pieces of prompts. So the weights are read from memory once for all of them.

Everything in a model but attention treats tokens one by one. In such a pass attention is ours: each
part of the tokens attends to the cache that it belongs to.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from mooring.engines.transformers.columns import Columns
from mooring.engines.transformers.forward import Forward
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.prefill import Piece

_NAME = "mooring-ragged"
_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
# What changes the scores of attention in ways that are not done here.
_REFUSED = ("softcap", "s_aux", "position_bias", "head_mask")

States = tuple[torch.Tensor, torch.Tensor]
_current = threading.local()


class RaggedForward:
    """Calls a model on rows in columns and on pieces of prompts in one pass.

    Raises `ValueError` for a model whose attention cannot be replaced.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._forward = Forward(loaded)
        self._configs = _configs_of(loaded.model)
        self._windows = _windows_of(loaded.model.config)
        AttentionInterface.register(_NAME, _attend)

    def __call__(
        self, last: Sequence[int], columns: Columns, pieces: Sequence[Piece]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the logits after the `last` token of every row, `[rows, vocabulary]`, and for each
        piece those that it needs, `[count, vocabulary]`.

        The rows' tokens go to the next column, which must be `free`, those of a piece to the cache
        of its prompt. Where anything is raised, the caches may hold a part of them.
        """
        parts: list[_Part] = [_Rows(last, columns)] if last else []
        for piece in pieces:
            parts.append(_Prompt(piece, sum(part.length for part in parts)))
        device = self._forward.device
        ids = torch.cat([part.ids.to(device) for part in parts])[None]
        positions = torch.cat([part.positions.to(device) for part in parts])[None]
        places = torch.cat([part.places for part in parts]).to(device)
        with self._attention(), _running(_RaggedCache(parts, self._windows)) as cache:
            logits = self._forward.at(places, ids, positions, cache)
        sizes = [len(last), *(piece.count for piece in pieces)]
        rows, *others = torch.split_with_sizes(logits, sizes)
        return rows, others

    @contextmanager
    def _attention(self) -> Iterator[None]:
        """Let the model call our attention instead of its own."""
        before = [config._attn_implementation for config in self._configs]
        try:
            for config in self._configs:
                config._attn_implementation_internal = _NAME
            yield
        finally:
            for config, name in zip(self._configs, before, strict=True):
                config._attn_implementation_internal = name


class _Part(Protocol):
    """Tokens of a pass that share a cache; `places` are those whose scores are needed."""

    length: int
    ids: torch.Tensor
    positions: torch.Tensor
    places: torch.Tensor

    def take(self, states: torch.Tensor) -> torch.Tensor:
        """Return its own of `[1, heads, tokens, head_dim]`, as `[batch, heads, new, head_dim]`."""

    def give(self, output: torch.Tensor) -> torch.Tensor:
        """Return `[batch, new, heads, head_dim]` as `[1, length, heads, head_dim]`."""

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> States:
        """Add to the cache; return all that is seen."""

    def mask(self, window: int | None) -> torch.Tensor | None:
        """Return what each new token may see: True; None for all up to itself."""


class _Rows:
    """The next token of every row in columns."""

    def __init__(self, last: Sequence[int], columns: Columns) -> None:
        mask, positions = columns.show(range(len(last)))
        self.length = len(last)
        self.ids = torch.tensor(last)
        self.positions = positions[:, 0]
        self.places = torch.arange(self.length)
        self._columns = columns
        self._mask = mask.bool()[:, None, None]
        self._windowed: dict[int, torch.Tensor] = {}

    def take(self, states: torch.Tensor) -> torch.Tensor:
        return states[0, :, : self.length].transpose(0, 1)[:, :, None]

    def give(self, output: torch.Tensor) -> torch.Tensor:
        return output.transpose(0, 1)

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> States:
        seen: States = self._columns.layers[layer].update(keys, values)
        return seen

    def mask(self, window: int | None) -> torch.Tensor:
        if window is None:
            return self._mask
        if window not in self._windowed:
            seen = self._mask.shape[-1]
            distance = seen - 1 - torch.arange(seen, device=self._mask.device)
            self._windowed[window] = self._mask & (distance < window)
        return self._windowed[window]


class _Prompt:
    """A piece of a prompt, whose tokens begin at `begin` of the pass."""

    def __init__(self, piece: Piece, begin: int) -> None:
        self.length = piece.tokens
        self.ids, self.positions = piece.ids[0], piece.positions[0]
        self._tokens = slice(begin, begin + self.length)
        self.places = torch.arange(self._tokens.stop - piece.count, self._tokens.stop)
        self._piece = piece
        self._windowed: dict[int | None, torch.Tensor | None] = {}

    def take(self, states: torch.Tensor) -> torch.Tensor:
        return states[:, :, self._tokens]

    def give(self, output: torch.Tensor) -> torch.Tensor:
        return output

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> States:
        keys, values = self._piece.cache.update(keys, values, layer)
        return keys, values

    def mask(self, window: int | None) -> torch.Tensor | None:
        if window not in self._windowed:
            self._windowed[window] = self._make_mask(window)
        return self._windowed[window]

    def _make_mask(self, window: int | None) -> torch.Tensor | None:
        begin, end = self._piece.begin, self._piece.end
        if begin == 0 and (window is None or end <= window):
            return None
        new = self.positions[:, None]
        seen = torch.arange(end, device=new.device)
        allowed = seen <= new
        return (allowed if window is None else allowed & (new - seen < window))[None, None]


class _RaggedLayer(CacheLayerMixin):  # type: ignore[misc]
    """Gives each part's new keys and values to its cache, and keeps at hand what it may see."""

    is_sliding = False

    def __init__(self, parts: list[_Part], index: int, window: int | None) -> None:
        super().__init__()
        self.is_initialized = True
        self.window = window
        self.seen: list[States] = []
        self._parts, self._index = parts, index

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> States:
        """Keep what each part sees; return the states as they are, since attention asks here."""
        self.seen = [
            part.update(part.take(key_states), part.take(value_states), self._index)
            for part in self._parts
        ]
        return key_states, value_states

    def get_seq_length(self) -> int:
        """Return 0: parts have lengths of their own, and positions are given."""
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length of a mask for new tokens alone, which nobody uses."""
        return query_length, 0

    def get_max_length(self) -> int:
        """Return -1: there is no fixed length."""
        return -1


class _RaggedCache(Cache):  # type: ignore[misc]
    """What a pass sees as its cache."""

    def __init__(self, parts: list[_Part], windows: Sequence[int | None]) -> None:
        layers = [_RaggedLayer(parts, index, window) for index, window in enumerate(windows)]
        super().__init__(layers=layers)
        self.parts = parts


@contextmanager
def _running(cache: _RaggedCache) -> Iterator[_RaggedCache]:
    """Tell attention in this thread which cache it is called for."""
    _current.cache = cache
    try:
        yield cache
    finally:
        del _current.cache


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Let every part attend to what it sees, as transformers calls attention."""
    layer = _current.cache.layers[module.layer_idx]
    refused = [name for name in _REFUSED if options.get(name) is not None]
    if refused or attention_mask is not None or sliding_window != layer.window:
        raise ValueError(f"attention with a mask, another window or {_REFUSED}: {refused}")
    outputs = []
    for part, (keys, values) in zip(_current.cache.parts, layer.seen, strict=True):
        mask = part.mask(sliding_window)
        output, _ = sdpa_attention_forward(module, part.take(query), keys, values, mask, **options)
        outputs.append(part.give(output))
    return torch.cat(outputs, dim=1), None


def _configs_of(model: Any) -> list[Any]:
    """Return every configuration that a part of the model asks for its kind of attention."""
    found = {
        id(module.config): module.config for module in model.modules() if hasattr(module, "config")
    }
    kinds = {getattr(config, "_attn_implementation", None) for config in found.values()}
    if kinds != {"sdpa"}:
        raise ValueError(f"attention of another kind than sdpa: {kinds}")
    return list(found.values())


def _windows_of(config: Any) -> list[int | None]:
    """Return how many tokens each layer sees back; None for all."""
    text = config.get_text_config(decoder=True)
    window, count = getattr(text, "sliding_window", None), text.num_hidden_layers
    types = getattr(text, "layer_types", None)
    if getattr(text, "attention_chunk_size", None) or not set(types or ()) <= _LAYER_TYPES:
        raise ValueError(f"layers that see other than all or the last tokens: {types}")
    if types is None:
        return [window] * count
    return [window if kind == "sliding_attention" else None for kind in types]
