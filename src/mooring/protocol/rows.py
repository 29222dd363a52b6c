"""Rows of prompts or conversations, as tables and request bodies hold them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mooring.errors import InvalidPrompt
from mooring.generation import Conversation, Instruction, Message, PromptInput

MAX_MESSAGES = 1024

_COLUMNS = ("prompt", "messages")
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_MISSING_TYPES = ("NAType", "NaTType")


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


def parse_messages(value: object, where: str = "") -> Conversation:
    """Check a list of messages; `where` is put in front of each error."""
    if isinstance(value, str):
        value = _from_json_text(value, where)
    value = _plain(value)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InvalidPrompt(
            f"{where}`messages` must be a list of objects with `role` and `content`. "
            f"Given: {_kind(value)}.",
            param="messages",
        )
    if not 1 <= len(value) <= MAX_MESSAGES:
        raise InvalidPrompt(
            f"{where}`messages` must hold between 1 and {MAX_MESSAGES} messages. "
            f"Given: {len(value)}.",
            param="messages",
        )
    return Conversation(
        tuple(
            _parse_message(_plain(message), where, f"messages[{index}]")
            for index, message in enumerate(value)
        )
    )


def _parse_row(row: object, where: str) -> PromptInput:
    if isinstance(row, str):
        row = {"prompt": row}
    if not isinstance(row, Mapping):
        raise InvalidPrompt(
            f"{where}a row must be a string, or an object with `prompt` or `messages`. "
            f"Given: {_kind(row)}."
        )
    unknown = [str(name)[:40] for name in row if name not in _COLUMNS]
    if unknown:
        raise InvalidPrompt(
            f"{where}columns must be `prompt` or `messages`. Given also: "
            f"{', '.join(unknown[:8])}. Leave these out."
        )
    given = [name for name in _COLUMNS if not _is_missing(row.get(name))]
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
            f"{where}`prompt` must be a string. Given: {_kind(text)}.", param="prompt"
        )
    if not text:
        raise InvalidPrompt(f"{where}`prompt` must not be empty.", param="prompt")
    return Instruction(str(text))


def _parse_message(message: object, where: str, path: str) -> Message:
    if not isinstance(message, Mapping):
        raise InvalidPrompt(
            f"{where}`{path}` must be an object with `role` and `content`. "
            f"Given: {_kind(message)}.",
            param=path,
        )
    _refuse_others(message, ("role", "content"), lambda name: (where, f"{path}.{name}"))
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidPrompt(
            f"{where}`{path}.role` must be one of: {', '.join(_ROLES)}. Given: {_shown(role)}.",
            param=f"{path}.role",
        )
    return Message(_ROLES[role], _parse_content(message.get("content"), where, f"{path}.content"))


def _parse_content(content: object, where: str, path: str) -> str:
    content = _plain(content)
    if isinstance(content, str):
        return str(content)
    if not isinstance(content, Sequence) or not content:
        raise InvalidPrompt(
            f"{where}`{path}` must be a string or a list of text parts. Given: {_kind(content)}.",
            param=path,
        )
    return "".join(
        _parse_part(_plain(part), where, f"{path}[{index}]") for index, part in enumerate(content)
    )


def _parse_part(part: object, where: str, path: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or kind != "text":
        raise InvalidPrompt(
            f'{where}`{path}` must be a part of type "text": this model reads text only. '
            f"Given: {_shown(kind) if kind is not None else _kind(part)}.",
            param=path,
        )
    _refuse_others(part, ("type", "text"), lambda name: (where, f"{path}.{name}"))
    text = part.get("text")
    if not isinstance(text, str):
        raise InvalidPrompt(
            f"{where}`{path}.text` must be a string. Given: {_kind(text)}.", param=f"{path}.text"
        )
    return str(text)


def _refuse_others(
    given: Mapping[Any, Any], known: Sequence[str], locate: Callable[[str], tuple[str, str]]
) -> None:
    """Refuse other fields that say something; clients send back our own answers' empty ones."""
    for name, value in given.items():
        if name not in known and not _is_missing(value) and value != []:
            where, path = locate(str(name)[:40])
            raise InvalidPrompt(f"{where}`{path}` is not supported. Leave it out.", param=path)


def _from_json_text(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidPrompt(
            f"{where}`messages` given as text must be a JSON list of objects with `role` and "
            "`content`.",
            param="messages",
        ) from None


def _is_conversation(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, Mapping) for value in values)


def _is_missing(value: object) -> bool:
    """Whether a cell is empty: None, NaN, or the missing marks of a data frame."""
    return (
        value is None
        or (isinstance(value, float) and value != value)
        or type(value).__name__ in _MISSING_TYPES
    )


def _plain(value: Any) -> Any:
    """Turn an array, as a data frame may hold it, into a list."""
    return value.tolist() if hasattr(value, "tolist") else value


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return "an empty list" if value == [] else type(value).__name__


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
