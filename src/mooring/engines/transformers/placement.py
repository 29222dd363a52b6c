"""Where a model runs and in which precision it computes, decided before its weights are read."""

from dataclasses import dataclass
from typing import Any

from mooring.engines.transformers.weights import Weights
from mooring.errors import InvalidParameter
from mooring.machine import has_native_bfloat16
from mooring.settings import Device

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_SHARE_FOR_WEIGHTS = 0.9


@dataclass(frozen=True, slots=True)
class Placement:
    """Arguments for `from_pretrained`: a dtype or `auto`; a device, `auto` or None for CPU."""

    dtype: Any
    device_map: str | None


def place(weights: Weights, device: Device, dtype: str) -> Placement:
    """Choose for these weights; `auto` leaves a choice open."""
    import torch

    device = _choose_device(device)
    if dtype == "auto":
        dtype = _choose_dtype(weights.dtype, device)
    device_map = None if device == "cpu" else device
    if device == "cuda" and not _fit_on_one_gpu(weights, dtype):
        device_map = "auto"
    return Placement("auto" if dtype == "auto" else getattr(torch, dtype), device_map)


def _choose_device(wanted: Device) -> Device:
    import torch

    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda" if has_cuda else "mps" if has_mps else "cpu"
    if (wanted == "cuda" and not has_cuda) or (wanted == "mps" and not has_mps):
        raise InvalidParameter(
            f"`device` must be one that this torch can use. Given: {wanted}. "
            "Use `cpu` or `auto`, or install a torch built for it.",
            param="device",
        )
    return wanted


def _choose_dtype(checkpoint: str, device: Device) -> str:
    if device != "cpu" or checkpoint == "auto":
        return checkpoint
    return "bfloat16" if checkpoint != "float32" and has_native_bfloat16() else "float32"


def _fit_on_one_gpu(weights: Weights, dtype: str) -> bool:
    import torch

    free, _ = torch.cuda.mem_get_info()
    return weights.parameters * _BYTES.get(dtype, 2) <= free * _SHARE_FOR_WEIGHTS
