"""Device and dtype are chosen for the machine, before weights are read."""

from typing import Literal

import pytest
import torch

from mooring.engines.transformers import placement
from mooring.engines.transformers.placement import Placement, cpu_has_bfloat16, place
from mooring.engines.transformers.weights import Weights
from mooring.errors import InvalidParameter

INTEL = "processor\t: 0\nflags\t\t: fpu sse2 avx512f avx512_bf16 amx_tile\nbogomips\t: 5000\n"
OLD_INTEL = "processor\t: 0\nflags\t\t: fpu sse2 avx2 bf16c\nmodel name\t: bf16 amx_bf16\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one GPU of which 100 bytes are free."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100, 1000))


@pytest.mark.parametrize(
    ("cpu_info", "expected"), [(INTEL, True), (OLD_INTEL, False), (ARM, True), ("", False)]
)
def test_knows_a_cpu_with_bfloat16(cpu_info: str, expected: bool) -> None:
    assert cpu_has_bfloat16(cpu_info) is expected


@pytest.mark.parametrize(
    ("checkpoint", "cpu_info", "expected"),
    [
        ("bfloat16", INTEL, torch.bfloat16),
        ("float16", INTEL, torch.bfloat16),
        ("bfloat16", OLD_INTEL, torch.float32),
        ("float16", OLD_INTEL, torch.float32),
        ("float32", INTEL, torch.float32),
        ("auto", INTEL, "auto"),
    ],
)
def test_chooses_the_dtype_on_cpu(
    monkeypatch: pytest.MonkeyPatch, checkpoint: str, cpu_info: str, expected: object
) -> None:
    monkeypatch.setattr(placement, "_cpu_info", lambda: cpu_info)
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
