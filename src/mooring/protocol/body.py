"""Bytes to a checked body: parsed once, and every failure said in our own words."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, ValidationError
from pydantic_core import ErrorDetails, from_json

from mooring.errors import InvalidInput, InvalidJson, InvalidParameter
from mooring.protocol.values import shown

Body = TypeVar("Body", bound="StrictBody")
Item = TypeVar("Item")

_KINDS_AT_MOST = 8


class _FirstFault(FailFast):
    __hash__ = object.__hash__  # unions of such types want one


Items = Annotated[list[Item], _FirstFault()]
"""A list whose first bad item is its only fault: collecting a million would hold up everybody."""


class StrictBody(BaseModel):
    """A JSON object without unknown fields, without conversions between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def parse_body(kind: type[Body], body: bytes) -> Body:
    """Parse `body`; raise `InvalidJson`, or `InvalidParameter` naming the first bad field."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _in_our_words(error.errors(include_url=False), body) from None


def parse_object(body: bytes) -> dict[str, object]:
    """Parse `body` as a JSON object with any fields; raise `InvalidJson`."""
    try:
        value = from_json(body)
    except ValueError as error:
        raise InvalidJson(f"The body must be valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise _not_an_object()
    return value


def _in_our_words(errors: Sequence[ErrorDetails], body: bytes) -> InvalidInput:
    if errors[0]["type"] == "json_invalid":
        reason = errors[0]["msg"].removeprefix("Invalid JSON: ")
        return InvalidJson(f"The body must be valid JSON: {reason}.")
    if not errors[0]["loc"]:
        return _not_an_object()
    error, fields = _first(errors, from_json(body))
    param = _path(fields)
    if error["type"] == "extra_forbidden":
        return InvalidParameter(f"Unknown field `{param}`. Leave it out.", param=param)
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        param = f"{param}.{error['ctx']['discriminator'].strip(chr(39))}"
    if error["type"] in ("missing", "union_tag_not_found"):
        return InvalidParameter(f"`{param}` is required.", param=param)
    rule, given = _rule_and_given(error)
    return InvalidParameter(f"`{param}` must {rule}. Given: {given}.", param=param)


def _first(errors: Sequence[ErrorDetails], body: Any) -> tuple[ErrorDetails, list[int | str]]:
    """Return the first fault and its place; in a union, by the kind that fits best."""
    place = _fields_of(errors[0], body)
    placed = ((error, _fields_of(error, body)) for error in errors[:_KINDS_AT_MOST])
    inside = [(error, fields) for error, fields in placed if fields[: len(place)] == place]
    return max(inside, key=lambda found: len(found[1]))


def _rule_and_given(error: ErrorDetails) -> tuple[str, str]:
    limits, value = error.get("ctx", {}), error["input"]
    match error["type"]:
        case "too_short":
            return f"have at least {limits['min_length']} items", str(limits["actual_length"])
        case "too_long":
            return f"have at most {limits['max_length']} items", str(limits["actual_length"])
        case "string_pattern_mismatch":
            return f"match {limits['pattern']}", shown(value)
        case "union_tag_invalid":
            return f"be one of: {limits['expected_tags']}", shown(limits["tag"])
        case "literal_error":
            return f"be {limits['expected']}", shown(value)
        case _:
            return f"be {error['msg'].removeprefix('Input should be ')}", type(value).__name__


def _fields_of(error: ErrorDetails, body: Any) -> list[int | str]:
    """Return where a fault is, without the steps that name which kind of a union was tried."""
    fields: list[int | str] = []
    for number, step in enumerate(error["loc"], 1):
        last = number == len(error["loc"])
        if isinstance(step, int) or (isinstance(body, dict) and step in body):
            fields.append(step)
            body = body[step]
        elif last and error["type"] == "missing":
            fields.append(step)
    return fields


def _not_an_object() -> InvalidJson:
    return InvalidJson("The body must be a JSON object.")


def _path(location: Sequence[int | str]) -> str:
    """Write a location as `messages[2].content`, at most 100 characters of it."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path[:100]
