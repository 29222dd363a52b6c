"""Rows of prompts or conversations, as tables and request bodies hold them."""

from collections.abc import Mapping, Sequence
from typing import Any

from mooring.errors import InvalidPrompt
from mooring.generation import Instruction, PromptInput
from mooring.protocol.messages import parse_messages
from mooring.protocol.values import is_missing, kind_of

_COLUMNS = ("prompt", "messages")


def parse_rows(rows: Sequence[object]) -> list[PromptInput]:
    """Turn each row into a prompt; raise `InvalidPrompt` naming the first bad row, from 0.

    A row is a string, or a mapping with either `prompt` (a string) or `messages` (a list of role
    and content, or the same as JSON text); the other may be absent, None or NaN.
    """
    return [_parse_row(row, f"row {number}: ") for number, row in enumerate(rows)]


def rows_of_columns(columns: Mapping[Any, Any]) -> list[object]:
    """Spread columns of equal length over rows; one value, or one conversation, is one row."""
    lengths = {
        name: len(values)
        for name, values in columns.items()
        if isinstance(values, list) and not (name == "messages" and _is_conversation(values))
    }
    if not lengths:
        return [dict(columns)]
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InvalidPrompt(f"All columns must have the same number of rows. Given: {counts}.")
    return [
        {name: values[row] if name in lengths else values for name, values in columns.items()}
        for row in range(next(iter(lengths.values())))
    ]


def _parse_row(row: object, where: str) -> PromptInput:
    if isinstance(row, str):
        row = {"prompt": row}
    if not isinstance(row, Mapping):
        raise InvalidPrompt(
            f"{where}a row must be a string, or an object with `prompt` or `messages`. "
            f"Given: {kind_of(row)}."
        )
    unknown = [str(name)[:40] for name in row if name not in _COLUMNS]
    if unknown:
        raise InvalidPrompt(
            f"{where}columns must be `prompt` or `messages`. Given also: "
            f"{', '.join(unknown[:8])}. Leave these out."
        )
    given = [name for name in _COLUMNS if not is_missing(row.get(name))]
    if len(given) != 1:
        raise InvalidPrompt(
            f"{where}exactly one of `prompt` and `messages` is needed. "
            f"Given: {'both' if given else 'none'}."
        )
    if given == ["messages"]:
        return parse_messages(row["messages"], where)
    return _parse_instruction(row["prompt"], where)


def _parse_instruction(text: object, where: str) -> Instruction:
    if not isinstance(text, str):
        raise InvalidPrompt(
            f"{where}`prompt` must be a string. Given: {kind_of(text)}.", param="prompt"
        )
    if not text:
        raise InvalidPrompt(f"{where}`prompt` must not be empty.", param="prompt")
    return Instruction(str(text))


def _is_conversation(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, Mapping) for value in values)
