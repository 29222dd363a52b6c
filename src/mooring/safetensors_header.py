"""Reads the header of a safetensors file as strictly as the format demands, without its values."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from mooring.errors import BrokenSource

MAX_HEADER_BYTES = 100_000_000
LENGTH_BYTES = 8

DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor: its name, type, shape and place in the data part (bytes, end exclusive)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def values(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


def read_header(path: Path, name: str) -> tuple[StoredTensor, ...]:
    """Return the tensors of a file; raise `BrokenSource` with `name` if any byte is out of place.

    The data part must be covered exactly: no overlap, no gap, nothing after the last tensor.
    """
    try:
        text, data_bytes = _split(path, name)
    except OSError as error:
        raise BrokenSource(
            f"{name} must be readable. Given: {error.strerror}. Change its permissions."
        ) from None
    tensors = _parse(text, name)
    check_tensors(tensors, name, data_bytes=data_bytes)
    return tensors


def check_tensors(
    tensors: Iterable[StoredTensor], name: str, *, data_bytes: int | None = None
) -> None:
    """Raise `BrokenSource` unless types, shapes and places agree and cover `data_bytes`."""
    position = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end)):
        bits = DTYPE_BITS.get(tensor.dtype)
        if bits is None:
            raise _broken(name, f"{tensor.name} has the unknown type {tensor.dtype[:20]!r}")
        if tensor.begin != position:
            raise _broken(name, f"{tensor.name} starts at byte {tensor.begin}, not at {position}")
        if (tensor.end - tensor.begin) * 8 != tensor.values * bits:
            raise _broken(
                name,
                f"{tensor.name} has {tensor.end - tensor.begin} bytes, which do not hold "
                f"{tensor.values} values of {tensor.dtype}",
            )
        position = tensor.end
    if data_bytes is not None and position != data_bytes:
        raise _broken(name, f"its tensors end at byte {position}, its data at {data_bytes}")


def _split(path: Path, name: str) -> tuple[bytes, int]:
    """Return the header's text and the size of the data part."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if size < LENGTH_BYTES or length > min(MAX_HEADER_BYTES, size - LENGTH_BYTES):
            raise _broken(name, f"its header should have {length} bytes, the file has {size}")
        return file.read(length), size - LENGTH_BYTES - length


def _parse(text: bytes, name: str) -> tuple[StoredTensor, ...]:
    try:
        header = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        raise _broken(name, "its header is not JSON with unique names") from None
    if not isinstance(header, dict):
        raise _broken(name, "its header is not a JSON object")
    header.pop("__metadata__", None)
    return tuple(_tensor(tensor_name, entry, name) for tensor_name, entry in header.items())


def _tensor(tensor_name: str, entry: Any, name: str) -> StoredTensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end]} if all(
            type(number) is int and 0 <= number < 2**63 for number in (*shape, begin, end)
        ):
            return StoredTensor(tensor_name, dtype, tuple(shape), begin, end)
    raise _broken(name, f"the entry of {tensor_name[:80]} is malformed")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError
    return entries


def _broken(name: str, reason: str) -> BrokenSource:
    return BrokenSource(f"{name} is damaged: {reason}. Download or copy the file again.")
