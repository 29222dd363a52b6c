"""Weights are summed up from safetensors headers alone."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mooring.engines.transformers.weights import Weights, read_weights
from mooring.errors import BrokenSource


def test_sums_up_one_file(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(3, 4, dtype=torch.bfloat16), "b": torch.zeros(5)}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert read_weights(tmp_path) == Weights(17, "bfloat16")


def test_sums_up_the_shards_of_the_index(tmp_path: Path) -> None:
    for number, count in ((1, 10), (2, 20)):
        save_file({f"w{number}": torch.zeros(count)}, tmp_path / f"part-{number}.safetensors")
    save_file({"other": torch.zeros(99)}, tmp_path / "consolidated.safetensors")
    weight_map = {"w1": "part-1.safetensors", "w2": "part-2.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert read_weights(tmp_path) == Weights(30, "float32")


def test_leaves_the_dtype_of_packed_weights_to_transformers(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(8, dtype=torch.uint8)}, tmp_path / "model.safetensors")
    assert read_weights(tmp_path) == Weights(8, "auto")


def test_does_not_take_pickles(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BrokenSource, match=r"must be in safetensors files\. Given: none"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x05",
        b"\xff" * 8,
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + b'{"w": {}}',
        (10).to_bytes(8, "little") + b'{"w": null}',
        (20).to_bytes(8, "little") + b"{",
    ],
)
def test_names_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(BrokenSource, match=r"model\.safetensors is damaged"):
        read_weights(tmp_path)


def test_names_a_missing_shard(tmp_path: Path) -> None:
    index = {"weight_map": {"w": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BrokenSource, match=r"model-00001-of-00001\.safetensors must be readable"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"w":1}}']
)
def test_names_a_damaged_index(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(BrokenSource, match="is not an index of weights"):
        read_weights(tmp_path)
