"""Whatever a caller of `predict` hands over, as one list of rows."""

from collections.abc import Mapping
from typing import Any

from mooring.errors import InvalidPrompt
from mooring.protocol.rows import rows_of_columns


def rows_of(data: Any) -> list[Any]:
    """Return one row (a string or a mapping of column to value) per question in `data`.

    Takes a string, a list of strings or of mappings, a mapping of columns to one value or to a
    list of values, an array, a series, or a data frame with any index.
    """
    data = _plain(data)
    if isinstance(data, str):
        return [data]
    if isinstance(data, Mapping):
        return rows_of_columns(data)
    if isinstance(data, list):
        return data
    raise InvalidPrompt(
        "Input must be a string, a list, a mapping or a data frame with the column `prompt` or "
        f"`messages`. Given: {type(data).__name__}."
    )


def _plain(value: Any) -> Any:
    """Turn arrays, series and frames, at any depth, into lists and mappings of plain values."""
    if isinstance(value, str) or value is None:
        return value
    if hasattr(value, "to_dict") and hasattr(value, "columns"):  # a data frame
        return _plain_frame(value)
    if hasattr(value, "tolist"):  # a numpy array or scalar, or a series
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _plain_frame(frame: Any) -> list[Any]:
    names = list(frame.columns)
    columns = [_plain(frame[name]) for name in names]
    # A bare list that somebody made a frame of; Spark names the one column of a UDF by its number.
    if names in ([0], ["0"]):
        return list(columns[0])
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
