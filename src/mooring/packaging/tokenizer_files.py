"""Reads the tokenizer's files: is there one that works, its special tokens, its chat template."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mooring.errors import BrokenSource
from mooring.packaging.json_file import read_optional_object

_VOCABULARIES = ("vocab.json", "vocab.txt")


def check_tokenizer(folder: Path, files: Iterable[str], *, own_code: bool) -> Tokenizer | None:
    """Return the fast tokenizer, or None where others files or the model's own code make one.

    Raises `BrokenSource` where there is no tokenizer or its file is damaged.
    """
    names = set(files)
    if "tokenizer.json" in names:
        return _load(folder / "tokenizer.json")
    others = {name for name in names if name.endswith((".model", ".tiktoken"))}
    if others or names.intersection(_VOCABULARIES) or own_code:
        return None
    raise BrokenSource(
        "A model must bring its tokenizer: tokenizer.json, *.model, *.tiktoken or vocab.*. "
        "Given: none. Save it into the folder with `tokenizer.save_pretrained(folder)`."
    )


def special_tokens(folder: Path) -> dict[str, str]:
    """Return the named special tokens (`bos_token`, ...) as text."""
    entries = read_optional_object(folder / "special_tokens_map.json")
    entries |= read_optional_object(folder / "tokenizer_config.json")
    tokens = {name: _content(value) for name, value in entries.items() if name.endswith("_token")}
    return {name: token for name, token in sorted(tokens.items()) if token is not None}


def chat_template(folder: Path) -> str | None:
    """Return the chat template, looking where transformers looks and in that order."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return read_text(file)
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = _template(read_optional_object(folder / name).get("chat_template"))
        if template is not None:
            return template
    return None


def read_text(path: Path) -> str:
    """Return a template file; raise `BrokenSource` if it is not UTF-8 or cannot be read."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        given = error.strerror if isinstance(error, OSError) else "other bytes"
        raise BrokenSource(
            f"{path.name} must be UTF-8 text. Given: {given}. Save it as UTF-8 and readable."
        ) from None


def _load(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception:  # noqa: BLE001 - the library raises nothing more precise
        raise BrokenSource(
            "tokenizer.json must hold a tokenizer of the `tokenizers` library. "
            f"Given: {path.stat().st_size} bytes that it cannot load. "
            "Download or copy the file again."
        ) from None


def _content(value: Any) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _template(value: Any) -> str | None:
    if isinstance(value, list):
        named = {
            entry["name"]: entry["template"]
            for entry in value
            if isinstance(entry, dict) and {"name", "template"} <= entry.keys()
        }
        value = next(iter(named.values())) if len(named) == 1 else named.get("default")
    return value if isinstance(value, str) else None
