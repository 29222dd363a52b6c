"""Linear layers that compute many rows in float32, on a CPU that does so faster than in 16 bits."""

import time
from typing import Any

import torch

from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.packed_linear import PackedLinear, change_layers, pack_weight
from mooring.machine import can_spare, note_faster_in_float32, read_memory

# Fewer rows wait for their weights rather than for arithmetic, and float32 weights are longer.
LEAST_ROWS = 24
# A second weight, twice as large as the first, must be well worth its memory.
_LEAST_GAIN = 1.2
# Smaller layers stay in the CPU's own caches, and say little of others.
_TELLING_VALUES = 1_000_000
_TIMED_ROWS, _TIMES = 64, 7


class WideLinear(PackedLinear):
    """A packed layer with a second weight, packed in float32, for passes of many rows.

    Sums are made in float32 either way; only their order differs.
    """

    wide_weight: torch.Tensor
    wide_bias: torch.Tensor | None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return what the layer it was would return."""
        if input.numel() < LEAST_ROWS * self.in_features:
            return super().forward(input)
        output: torch.Tensor = torch.ops.mkldnn._linear_pointwise.default(
            input.float(), self.wide_weight, self.wide_bias, "none", [], ""
        )
        return output.to(input.dtype)


def widen_linears(loaded: LoadedModel) -> bool:
    """Give the packed layers a second weight if there is memory for it, if it is faster and if the
    model's first logits stay; say whether that is so. Raises what the model raises as it is.
    """
    layers = [layer for layer in loaded.model.modules() if type(layer) is PackedLinear]
    layers = [layer for layer in layers if layer.weight.dtype != torch.float32]
    if not (layers and _memory_abounds(layers) and _is_faster(layers)):
        return False
    return change_layers(loaded, layers, _widen, _narrow, length=LEAST_ROWS)


def _memory_abounds(layers: list[PackedLinear]) -> bool:
    wanted = sum(layer.weight.numel() for layer in layers) * torch.float32.itemsize
    return can_spare(wanted, read_memory()[1])


def _is_faster(layers: list[PackedLinear]) -> bool:
    """Time the largest layer both ways, in turns; other work on this machine only adds time."""
    layer = max(layers, key=lambda layer: layer.weight.numel())
    rows = torch.ones(_TIMED_ROWS, layer.in_features, dtype=layer.weight.dtype)
    _widen(layer)
    narrow, wide = [], []
    for _ in range(_TIMES):
        narrow.append(_seconds(lambda: PackedLinear.forward(layer, rows)))
        wide.append(_seconds(lambda: layer(rows)))
    _narrow(layer)
    faster = min(narrow) >= _LEAST_GAIN * min(wide)
    if layer.weight.numel() >= _TELLING_VALUES:
        note_faster_in_float32(faster)
    return faster


def _seconds(run: Any) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _widen(layer: PackedLinear) -> None:
    layer.wide_weight = pack_weight(layer.weight.data.to_dense().float())
    layer.wide_bias = None if layer.bias is None else layer.bias.data.float()
    layer.__class__ = WideLinear


def _narrow(layer: PackedLinear) -> None:
    if type(layer) is WideLinear:
        del layer.wide_weight, layer.wide_bias
        layer.__class__ = PackedLinear  # type: ignore[assignment]
