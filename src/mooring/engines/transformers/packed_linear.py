"""Linear layers whose weights lie in memory the way the CPU's matrix kernels read them."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from mooring.engines.transformers.loader import MODEL_ERRORS, LoadedModel
from mooring.engines.transformers.padding import first_logits, is_close, trial_tokens

logger = logging.getLogger(__name__)

_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})
# The layout hardly depends on it, and one packing serves every number of rows.
_ROWS_TO_PACK_FOR = 8
_TRIAL_LENGTH = 8

Layer = TypeVar("Layer", bound=nn.Linear)


class PackedLinear(nn.Linear):
    """A linear layer with a packed weight of the same shape and dtype."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return what the layer it was would return."""
        output: torch.Tensor = torch.ops.mkldnn._linear_pointwise.default(
            input, self.weight, self.bias, "none", [], ""
        )
        return output


def pack_linears(loaded: LoadedModel) -> bool:
    """Pack the model's linear layers in place, if its first logits stay; say whether they did.

    Layers with a weight that is also used elsewhere stay as they are: packed, it would be in
    memory twice. What else the model holds is copied out of the mapped file, so that the file does
    not stay in memory. Raises what the model raises on its first tokens as it is.
    """
    layers = _layers_to_pack(loaded.model)
    if not layers:
        return False
    right = change_layers(loaded, layers, _pack, _unpack)
    for values in (*loaded.model.parameters(), *loaded.model.buffers()):
        if values.layout is torch.strided:
            values.data = values.data.clone()
    return right


def change_layers(
    loaded: LoadedModel,
    layers: Sequence[Layer],
    change: Callable[[Layer], None],
    restore: Callable[[Layer], None],
    *,
    length: int = _TRIAL_LENGTH,
) -> bool:
    """Change layers in place; restore them unless the model's first logits stay, and say whether.

    They are compared after `length` tokens, which the layers compute at once. Raises what the model
    raises on them as it is.
    """
    prompt = [trial_tokens(length, loaded.vocabulary_size)]
    before = first_logits(loaded, prompt)
    try:
        for layer in layers:
            change(layer)
        right = is_close(first_logits(loaded, prompt), before, loaded.precision)
    except MODEL_ERRORS:
        logger.warning("The model fails with weights in another layout.", exc_info=True)
        right = False
    if not right:
        for layer in layers:
            restore(layer)
    return right


def _layers_to_pack(model: Any) -> list[nn.Linear]:
    if not torch._C._has_mkldnn:
        return []
    uses = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    return [
        layer
        for layer in model.modules()
        if type(layer) is nn.Linear  # one of its kind may use its weight in another way
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype in _DTYPES
        and uses[id(layer.weight)] == 1
    ]


def pack_weight(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight `[out, in]` in the layout of the kernels."""
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_TO_PACK_FOR)
    return packed


def _pack(layer: nn.Linear) -> None:
    layer.weight = nn.Parameter(pack_weight(layer.weight.data), requires_grad=False)
    layer.__class__ = PackedLinear


def _unpack(layer: nn.Linear) -> None:
    if type(layer) is PackedLinear:
        layer.weight = nn.Parameter(layer.weight.data.to_dense(), requires_grad=False)
        layer.__class__ = nn.Linear  # type: ignore[assignment]
