"""What the safetensors headers of a snapshot say: how many numbers, of which type."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mooring.errors import BrokenSource
from mooring.safetensors_header import read_header

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
        for tensor in read_header(file, file.name):
            counts[tensor.dtype] += tensor.values
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
