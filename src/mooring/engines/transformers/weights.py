"""What the safetensors headers of a snapshot say: how many numbers, of which type."""

import json
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

from mooring.errors import BrokenSource

_MAX_HEADER_BYTES = 100_000_000
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Weights:
    """Parameters of a checkpoint and the dtype of most of them; `auto` if it is a packed one."""

    parameters: int
    dtype: str


def read_weights(snapshot: Path) -> Weights:
    """Sum up the headers of the files transformers would load; raise `BrokenSource`."""
    counts: Counter[str] = Counter()
    for file in _weight_files(snapshot):
        counts += _count(file)
    if not counts:
        raise BrokenSource(f"Weights must be in safetensors files. Given: none in {snapshot}.")
    return Weights(counts.total(), _DTYPES.get(counts.most_common(1)[0][0], "auto"))


def _weight_files(snapshot: Path) -> list[Path]:
    index = snapshot / "model.safetensors.index.json"
    if (snapshot / "model.safetensors").is_file() or not index.is_file():
        return sorted(snapshot.glob("model.safetensors"))
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
        return [snapshot / name for name in sorted(names)]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BrokenSource(f"{index} is not an index of weights. Get it again.") from error


def _count(file: Path) -> Counter[str]:
    """Count the numbers of each dtype that the header of `file` names."""
    counts: Counter[str] = Counter()
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(size, _MAX_HEADER_BYTES)))
        for name, entry in header.items():
            if name != "__metadata__":
                counts[entry["dtype"]] += prod(entry["shape"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BrokenSource(f"{file} is missing or no safetensors file. Get it again.") from error
    return counts
