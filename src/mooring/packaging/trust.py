"""Refuses models whose configuration would run code or fetch files that nobody trusted."""

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mooring.errors import BrokenSource, UnsafeSource
from mooring.packaging.json_file import read_optional_object

CODE_CONFIGS = ("config.json", "tokenizer_config.json")

_CHECKED_CONFIGS = (*CODE_CONFIGS, "generation_config.json")
_FORBIDDEN_KEYS = (
    "_attn_implementation_internal",
    "_experts_implementation_internal",
    "transformers_weights",
)
_IMPLEMENTATION_KEYS = ("attn_implementation", "experts_implementation")
_KNOWN_TOKENIZER_FILE = "tokenizer.json"


def code_modules(folder: Path) -> tuple[str, ...]:
    """Return the modules (`modeling_x`) that the configs ask to run, sorted."""
    references = {reference for name in CODE_CONFIGS for reference in _references(folder / name)}
    return tuple(sorted({reference.rpartition(".")[0] for reference in references}))


def refuse_untrusted(folder: Path, *, trust_remote_code: bool) -> bool:
    """Check all configs; return whether the model's own code will run.

    `auto_map` needs trust, except where transformers has an implementation of its own and the
    tokenizer is a plain file: then nothing but that is used. Raises `UnsafeSource`, or
    `BrokenSource` for a code file that is missing.
    """
    for name in _CHECKED_CONFIGS:
        for path, key, value in _walk(read_optional_object(folder / name)):
            _refuse_trick_key(name, path, key, value)
    modules = code_modules(folder)
    if not modules:
        return False
    if not trust_remote_code:
        if _needs_no_code(folder):
            return False
        raise UnsafeSource(
            "A model's own code runs only if you trust it. This model would run: "
            f"{', '.join(_file_of(module) for module in modules)}. "
            "Read these files, then say --trust-remote-code."
        )
    for module in modules:
        if not (folder / _file_of(module)).is_file():
            raise BrokenSource(
                f"`auto_map` names {_file_of(module)}, which is missing. "
                "Download or copy the model again."
            )
    return True


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield f"{path}{key}", key, inner
            yield from _walk(inner, f"{path}{key}.")
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, path)


def _refuse_trick_key(name: str, path: str, key: str, value: Any) -> None:
    if key in _FORBIDDEN_KEYS:
        raise UnsafeSource(
            f"{name} must not set `{path}`: it makes transformers use files or code that were not "
            "checked. Remove the key."
        )
    if key == "trust_remote_code" and value:
        raise UnsafeSource(
            f"{name} must not set `{path}`: a model cannot trust itself. "
            "Remove the key; if the model needs its own code, say --trust-remote-code."
        )
    if key.endswith(_IMPLEMENTATION_KEYS) and _names_repository(value):
        raise UnsafeSource(
            f"{name} must not name a code repository in `{path}`. Given: {str(value)[:80]!r}. "
            'Set it to "eager" or "sdpa", or remove the key.'
        )
    if key == "auto_map":
        for reference in _flat(value):
            _check_reference(name, reference)


def _names_repository(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_names_repository(inner) for inner in value.values())
    return isinstance(value, str) and "/" in value


def _check_reference(name: str, reference: str) -> None:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", reference, re.ASCII):
        raise UnsafeSource(
            f"`auto_map` of {name} must name classes in files of the model itself. "
            f"Given: {reference[:80]!r}. Copy that code into the model's folder and change "
            "`auto_map`."
        )


def _references(path: Path) -> set[str]:
    config = read_optional_object(path)
    maps = [value for _, key, value in _walk(config) if key == "auto_map"]
    return {reference for value in maps for reference in _flat(value)}


def _flat(value: Any) -> Iterator[str]:
    """Yield the class references of an `auto_map`, whose values are strings or lists of them."""
    match value:
        case str():
            yield value
        case Mapping():
            for inner in value.values():
                yield from _flat(inner)
        case list():
            for inner in value:
                yield from _flat(inner)


def _file_of(module: str) -> str:
    return module.replace(".", "/") + ".py"


def _needs_no_code(folder: Path) -> bool:
    config = read_optional_object(folder / "config.json")
    tokenizer_code = any(_references(folder / "tokenizer_config.json"))
    if tokenizer_code and not (folder / _KNOWN_TOKENIZER_FILE).is_file():
        return False
    model_type, architectures = config.get("model_type"), config.get("architectures")
    if not isinstance(model_type, str) or not isinstance(architectures, list) or not architectures:
        return False
    return _in_transformers(model_type, str(architectures[0]))


def _in_transformers(model_type: str, architecture: str) -> bool:
    """Look for the class in the installed sources: importing them would take seconds."""
    package = find_spec("transformers")
    if package is None or package.origin is None or not model_type.replace("-", "_").isidentifier():
        return False
    name = model_type.replace("-", "_")
    source = Path(package.origin).parent / "models" / name / f"modeling_{name}.py"
    pattern = rf"^class {re.escape(architecture)}\("
    return source.is_file() and bool(
        re.search(pattern, source.read_text("utf-8"), re.MULTILINE | re.IGNORECASE)
    )
