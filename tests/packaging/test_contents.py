from typing import Any

import pytest

from mooring.errors import BrokenSource, UnsafeSource
from mooring.packaging.contents import (
    SINGLE_WEIGHTS,
    WEIGHTS_INDEX,
    check_names,
    supporting_files,
    weight_files,
)

NAMES = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "qwen.tiktoken",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
    "README.md",
    "modeling_x.py",
    "deep/inner/attention.py",
    ".git/hooks/x.py",
    "pytorch_model.bin",
    "vocab.pkl",
    "training_args.bin",
    "model.safetensors",
    "onnx/config.json",
    "logo.png",
    ".gitattributes",
]
SUPPORTING = [
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "qwen.tiktoken",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
]


def no_index() -> dict[str, Any]:
    raise AssertionError("there is no index to read")


def test_only_what_serving_needs_is_taken() -> None:
    assert supporting_files(NAMES, code=False) == tuple(SUPPORTING)


def test_code_is_taken_only_when_asked() -> None:
    assert set(supporting_files(NAMES, code=True)) - set(SUPPORTING) == {
        "modeling_x.py",
        "deep/inner/attention.py",
    }


def test_one_file_of_weights_wins_over_an_index_as_in_transformers() -> None:
    names = [SINGLE_WEIGHTS, WEIGHTS_INDEX, "model-00001-of-00002.safetensors"]
    assert weight_files(names, no_index) == (SINGLE_WEIGHTS,)


def test_only_the_shards_that_the_index_names_are_taken() -> None:
    index = {"weight_map": {"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-1.safetensors"}}
    names = [WEIGHTS_INDEX, "m-1.safetensors", "m-2.safetensors", "consolidated.safetensors"]
    assert weight_files(names, lambda: index) == (
        WEIGHTS_INDEX,
        "m-1.safetensors",
        "m-2.safetensors",
    )


def test_a_missing_shard_is_named() -> None:
    index = {"weight_map": {"a": "m-2.safetensors"}}
    with pytest.raises(BrokenSource, match=r"names m-2\.safetensors, which is missing"):
        weight_files([WEIGHTS_INDEX], lambda: index)


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": ["m-1.safetensors"]}])
def test_an_index_without_a_map_is_broken(index: dict[str, Any]) -> None:
    with pytest.raises(BrokenSource, match="must hold an object `weight_map`"):
        weight_files([WEIGHTS_INDEX], lambda: index)


@pytest.mark.parametrize(
    "shard",
    [
        "../other/m.safetensors",
        "/etc/m.safetensors",
        "a/../../m.safetensors",
        "a//m.safetensors",
        "..\\m.safetensors",
        "m\n.safetensors",
        "m\0.safetensors",
        "pytorch_model.bin",
        7,
    ],
)
def test_an_index_that_leaves_the_folder_is_unsafe(shard: Any) -> None:
    names = [WEIGHTS_INDEX, str(shard)]
    with pytest.raises(UnsafeSource):
        weight_files(names, lambda: {"weight_map": {"a": shard}})


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "m.pth", "m.ckpt", "m.pkl"])
def test_pickles_alone_are_unsafe_and_the_way_out_is_named(name: str) -> None:
    with pytest.raises(UnsafeSource, match="pickles can run code") as caught:
        weight_files(["config.json", name], no_index)
    assert name in caught.value.message
    assert "save_pretrained(folder)" in caught.value.message


def test_an_adapter_alone_is_broken() -> None:
    with pytest.raises(BrokenSource, match="an adapter alone"):
        weight_files(["adapter_config.json", "adapter_model.safetensors"], no_index)


def test_no_weights_at_all_is_broken() -> None:
    with pytest.raises(BrokenSource, match=r"must have model\.safetensors or"):
        weight_files(["config.json"], no_index)


def test_names_that_differ_only_in_case_are_unsafe() -> None:
    check_names(["README.md", "readme.txt", "a/b.py"])
    with pytest.raises(UnsafeSource, match=r"README\.md and Readme\.md"):
        check_names(["README.md", "config.json", "Readme.md"])
