"""Says which files of a model belong into the artifact, and which names are refused."""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from mooring.errors import BrokenSource, UnsafeSource

SINGLE_WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".npz")

_SUPPORTING = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE*",
    "NOTICE*",
    "README.md",
)


def supporting_files(names: Iterable[str], *, code: bool) -> tuple[str, ...]:
    """Return everything but the weights: configs, tokenizer, licence and, if asked, code."""
    return tuple(sorted(name for name in names if _is_supporting(name, code=code)))


def weight_files(
    names: Iterable[str], read_index: Callable[[], Mapping[str, Any]]
) -> tuple[str, ...]:
    """Return the weights that transformers would load: one file, or an index and its shards.

    Raises `UnsafeSource` for pickles and names that leave the folder, `BrokenSource` for others.
    """
    present = set(names)
    if SINGLE_WEIGHTS in present:
        return (SINGLE_WEIGHTS,)
    if WEIGHTS_INDEX not in present:
        raise _no_weights(present)
    shards = _shards(read_index())
    for shard in shards:
        if shard not in present:
            raise BrokenSource(
                f"{WEIGHTS_INDEX} names {shard}, which is missing. "
                "Download or copy the model again."
            )
    return (WEIGHTS_INDEX, *shards)


def check_names(names: Iterable[str]) -> None:
    """Raise `UnsafeSource` for a name that leaves the folder or that two files would share."""
    seen: dict[str, str] = {}
    for name in names:
        _check_name(name)
        twin = seen.setdefault(name.casefold(), name)
        if twin != name:
            raise UnsafeSource(
                f"File names must differ in more than case. Given: {twin} and {name}. "
                "Rename or remove one of them."
            )


def _is_supporting(name: str, *, code: bool) -> bool:
    path = PurePosixPath(name)
    if path.suffix == ".py":
        return code and not any(part.startswith(".") for part in path.parts)
    if path.suffix.lower() in PICKLE_SUFFIXES or len(path.parts) != 1:
        return False
    return any(fnmatchcase(name, pattern) for pattern in _SUPPORTING)


def _shards(index: Mapping[str, Any]) -> tuple[str, ...]:
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BrokenSource(
            f"{WEIGHTS_INDEX} must hold an object `weight_map` of tensor to file. "
            "Replace it with the file of the original model."
        )
    for shard in weight_map.values():
        if not isinstance(shard, str) or not shard.endswith(".safetensors"):
            raise UnsafeSource(
                f"{WEIGHTS_INDEX} must name only safetensors files. Given: {str(shard)[:80]!r}. "
                "Convert the weights with `save_pretrained` of transformers."
            )
        _check_name(shard)
    return tuple(sorted(set(weight_map.values())))


def _check_name(name: str) -> None:
    parts = name.split("/")
    if "\\" in name or not name.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise UnsafeSource(
            "File names must be plain paths below the model folder, without `..`. "
            f"Given: {name[:80]!r}. Rename the file, or do not use this model."
        )


def _no_weights(present: set[str]) -> BrokenSource | UnsafeSource:
    pickles = sorted(name for name in present if _is_pickled_weights(name))
    if pickles:
        return UnsafeSource(
            f"Weights must be safetensors: pickles can run code. Given: {', '.join(pickles[:3])}. "
            "Convert them once, where you trust them: `AutoModelForCausalLM.from_pretrained(source)"
            ".save_pretrained(folder)`, save the tokenizer there too, and package that folder."
        )
    if "adapter_config.json" in present:
        return BrokenSource(
            "A model must bring all its weights. Given: an adapter alone. "
            "Merge it into its base model (`merge_and_unload()` of peft) and package the result."
        )
    return BrokenSource(
        f"A model must have {SINGLE_WEIGHTS} or {WEIGHTS_INDEX}. Given: neither. "
        "Choose a folder or hub id that holds the weights as safetensors."
    )


def _is_pickled_weights(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICKLE_SUFFIXES and "/" not in name
