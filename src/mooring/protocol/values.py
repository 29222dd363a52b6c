"""Values of any source, such as JSON or a data frame: what they are, and how errors show them."""

from typing import Any

_MISSING_TYPES = ("NAType", "NaTType")


def is_missing(value: object) -> bool:
    """Whether a cell is empty: None, NaN, or the missing marks of a data frame."""
    return (
        value is None
        or (isinstance(value, float) and value != value)
        or type(value).__name__ in _MISSING_TYPES
    )


def plain(value: Any) -> Any:
    """Turn an array, as a data frame may hold it, into a list."""
    return value.tolist() if hasattr(value, "tolist") else value


def kind_of(value: object) -> str:
    """Name what was given, without showing it."""
    if value is None:
        return "null"
    return "an empty list" if value == [] else type(value).__name__


def shown(value: object) -> str:
    """Show at most 40 characters of a value."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
