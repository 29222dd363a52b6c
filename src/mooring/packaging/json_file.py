"""Reads a JSON object of a model folder, or says why the file cannot be used."""

import json
from pathlib import Path
from typing import Any

from mooring.errors import BrokenSource

MAX_BYTES = 64 * 1024 * 1024


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`; raise `BrokenSource` naming the file."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BrokenSource(
                f"{path.name} must have at most {MAX_BYTES} bytes. Given: {size}. "
                "Replace it with the file of the original model."
            )
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BrokenSource(
            f"A model must have {path.name}. Given: none in {path.parent}. "
            "Choose a folder or hub id that holds a whole Hugging Face model."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenSource(
            f"{path.name} must be readable JSON. Given: {_reason(error)}. "
            "Replace it with the file of the original model."
        ) from None
    if not isinstance(value, dict):
        raise BrokenSource(
            f"{path.name} must hold a JSON object. Given: {type(value).__name__}. "
            "Replace it with the file of the original model."
        )
    return value


def read_optional_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, or an empty one where there is no such file."""
    return read_object(path) if path.exists() else {}


def _reason(error: Exception) -> str:
    match error:
        case json.JSONDecodeError():
            return f"{error.msg.lower()} (line {error.lineno})"
        case UnicodeDecodeError():
            return "text that is not UTF-8"
        case RecursionError():
            return "values nested too deeply"
        case OSError():
            return f"a file that cannot be read ({error.strerror})"
        case _:
            return "a number with too many digits"
