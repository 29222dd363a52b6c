"""JSON in a growing text: where an object ends, and whether it is a call."""

import json
import re
from dataclasses import dataclass
from typing import NoReturn

# Bounded, so that no text makes it slow.
_HEAD = re.compile(
    r'\s{0,64}\{\s{0,64}"name"\s{0,64}:\s{0,64}("(?:[^"\\]|\\.){1,256}")\s{0,64},'
    r'\s{0,64}"(?:arguments|parameters)"\s{0,64}:\s{0,64}(?=\{)'
)


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a call: its name, and where its arguments begin."""

    name: str
    end: int


class Balance:
    """Finds the end of the JSON value whose brackets begin at `at`, however often it is asked."""

    def __init__(self, at: int = 0, *, depth: int = 0) -> None:
        self.at = at
        self._depth = depth
        self._in_string = False
        self._escaped = False

    def end(self, text: str) -> int | None:
        """Return the position after the closing bracket; `text` may have grown since."""
        for position in range(self.at, len(text)):
            if self._closes(text[position]):
                self.at = position + 1
                return self.at
        self.at = len(text)
        return None

    def _closes(self, character: str) -> bool:
        if self._escaped:
            self._escaped = False
        elif self._in_string:
            self._escaped = character == "\\"
            self._in_string = character != '"'
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            return self._depth <= 0
        return False


def read_head(text: str) -> Head | None:
    """Return how a call begins that names its function first, as soon as that can be seen."""
    match = _HEAD.match(text)
    if match is None:
        return None
    try:
        return Head(json.loads(match[1]), match.end())
    except ValueError:
        return None


def may_become_call(text: str) -> bool:
    """Whether `text` is, or may grow into, an object with a key."""
    body = text.lstrip()
    if not body.startswith("{"):
        return not body
    inside = body[1:].lstrip()
    return not inside or inside[0] == '"'


def read_call(text: str) -> tuple[str, str] | None:
    """Return name and arguments of the call that is the JSON object `text`, None if it is none."""
    value = read_object(text)
    if value is None:
        return None
    head = read_head(text)
    if head is not None:
        return head.name, text[head.end : Balance(head.end).end(text)]
    name, arguments = value.get("name"), value.get("arguments", value.get("parameters"))
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    return name, json.dumps(arguments, ensure_ascii=False)


def read_object(text: str) -> dict[str, object] | None:
    """Return `text` read as a JSON object, None if it is none."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
