"""Device and dtype are chosen for the machine, before weights are read."""

from typing import Literal

import pytest
import torch

from mooring.engines.transformers import placement
from mooring.engines.transformers.placement import Placement, place
from mooring.engines.transformers.weights import Weights
from mooring.errors import InvalidParameter


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one GPU of which 100 bytes are free."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100, 1000))


@pytest.mark.parametrize(
    ("checkpoint", "native_bfloat16", "expected"),
    [
        ("bfloat16", True, torch.bfloat16),
        ("float16", True, torch.bfloat16),
        ("bfloat16", False, torch.float32),
        ("float16", False, torch.float32),
        ("float32", True, torch.float32),
        ("auto", True, "auto"),
    ],
)
def test_chooses_the_dtype_on_cpu(
    monkeypatch: pytest.MonkeyPatch, checkpoint: str, native_bfloat16: bool, expected: object
) -> None:
    monkeypatch.setattr(placement, "has_native_bfloat16", lambda: native_bfloat16)
    assert place(Weights(10, checkpoint), "cpu", "auto") == Placement(expected, None)


def test_takes_the_dtype_it_is_told() -> None:
    assert place(Weights(10, "bfloat16"), "cpu", "float16") == Placement(torch.float16, None)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize(
    ("parameters", "dtype", "device_map"),
    [(45, "auto", "cuda"), (46, "auto", "auto"), (22, "float32", "cuda"), (23, "float32", "auto")],
)
def test_spreads_what_does_not_fit_on_one_gpu(
    device: Literal["auto", "cuda"], parameters: int, dtype: str, device_map: str
) -> None:
    expected = torch.float16 if dtype == "auto" else torch.float32
    placed = place(Weights(parameters, "float16"), device, dtype)
    assert placed == Placement(expected, device_map)


@pytest.mark.usefixtures("gpu")
def test_stays_on_the_cpu_if_told() -> None:
    assert place(Weights(10, "float32"), "cpu", "auto") == Placement(torch.float32, None)


def test_prefers_mps_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert place(Weights(10, "float16"), "auto", "auto") == Placement(torch.float16, "mps")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_names_a_device_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, device: Literal["cuda", "mps"]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InvalidParameter, match=f"Given: {device}.") as raised:
        place(Weights(10, "float32"), device, "auto")
    assert raised.value.param == "device"
