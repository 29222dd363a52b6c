import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mooring.errors import BrokenSource
from mooring.safetensors_header import MAX_HEADER_BYTES, StoredTensor, read_header

A = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
B = {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}


def write(path: Path, header: Any, data_bytes: int = 32, *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + bytes(data_bytes))
    return path


def test_reads_what_was_written(tmp_path: Path) -> None:
    path = write(tmp_path / "w", {"__metadata__": {"format": "pt"}, "a": A, "b": B})
    assert read_header(path, "w") == (
        StoredTensor("a", "F32", (2, 3), 0, 24),
        StoredTensor("b", "BF16", (4,), 24, 32),
    )


def test_agrees_with_the_library_on_every_type_torch_can_save(tmp_path: Path) -> None:
    dtypes = [
        "float64",
        "float32",
        "float16",
        "bfloat16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
        "float8_e4m3fn",
        "float8_e5m2",
        "complex64",
    ]
    tensors = {name: torch.zeros((3, 5), dtype=getattr(torch, name)) for name in dtypes}
    tensors |= {"empty": torch.zeros((0, 7)), "scalar": torch.tensor(1.0)}
    save_file(tensors, tmp_path / "w")
    found = {tensor.name: tensor for tensor in read_header(tmp_path / "w", "w")}
    with safe_open(tmp_path / "w", "pt") as file:
        assert found.keys() == set(file.keys())
        for name in file.keys():  # noqa: SIM118 - the library's object is no mapping
            slice_ = file.get_slice(name)
            assert found[name].dtype == slice_.get_dtype()
            assert found[name].shape == tuple(slice_.get_shape())
    assert {name: t.values for name, t in found.items()} == {
        name: tensor.numel() for name, tensor in tensors.items()
    }
    assert all(t.end - t.begin == tensors[name].nbytes for name, t in found.items())


@pytest.mark.parametrize(
    ("header", "data_bytes", "reason"),
    [
        ({"a": A, "b": {**B, "data_offsets": [20, 28]}}, 28, "b starts at byte 20, not at 24"),
        ({"a": A, "b": {**B, "data_offsets": [28, 36]}}, 36, "b starts at byte 28, not at 24"),
        ({"a": A, "b": B}, 31, "its tensors end at byte 32, its data at 31"),
        ({"a": A, "b": B}, 33, "its tensors end at byte 32, its data at 33"),
        ({"a": {**A, "data_offsets": [0, 20]}}, 20, "a has 20 bytes, which do not hold 6 values"),
        ({"a": {**A, "data_offsets": [24, 0]}}, 24, "a starts at byte 24, not at 0"),
        ({"a": {**A, "dtype": "F31"}}, 24, "a has the unknown type 'F31'"),
        ({"a": {**A, "shape": [-2, -3]}}, 24, "the entry of a is malformed"),
        ({"a": {**A, "shape": [True, 6]}}, 24, "the entry of a is malformed"),
        ({"a": {**A, "shape": [2**63]}}, 24, "the entry of a is malformed"),
        ({"a": {"dtype": "F32"}}, 24, "the entry of a is malformed"),
        ({"a": None}, 24, "the entry of a is malformed"),
        ([A], 24, "its header is not a JSON object"),
        (b"{", 24, "its header is not JSON"),
        (b"[" * 50_000, 24, "its header is not JSON"),
        (b"\xff\xfe", 24, "its header is not JSON"),
        (json.dumps({"a": A}).encode()[:-1] + b', "a": 1}', 24, "not JSON with unique names"),
    ],
)
def test_refuses_a_header_that_lies(
    tmp_path: Path, header: Any, data_bytes: int, reason: str
) -> None:
    path = write(tmp_path / "w", header, data_bytes)
    with pytest.raises(BrokenSource, match=r"model-1\.safetensors is damaged") as caught:
        read_header(path, "model-1.safetensors")
    assert reason in caught.value.message
    assert "Download or copy the file again." in caught.value.message


@pytest.mark.parametrize("length", [33, MAX_HEADER_BYTES + 1, 2**63])
def test_refuses_a_header_that_is_longer_than_the_file(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "w", b"{}", 30, length=length)
    with pytest.raises(BrokenSource, match=f"should have {length} bytes, the file has 40"):
        read_header(path, "w")


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x00"])
def test_refuses_a_file_without_a_header(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(BrokenSource, match="w is damaged"):
        read_header(tmp_path / "w", "w")


def test_every_truncation_of_a_real_file_is_found(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2, 3), "b": torch.ones(4)}, tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    for size in range(len(content)):
        (tmp_path / "cut").write_bytes(content[:size])
        with pytest.raises(BrokenSource):
            read_header(tmp_path / "cut", "cut")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BrokenSource, match=r"w must be readable\. Given: No such file"):
        read_header(tmp_path / "none", "w")
