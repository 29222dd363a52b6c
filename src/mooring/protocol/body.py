"""Bytes to a checked body: parsed once, and every failure said in our own words."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, from_json

from mooring.errors import InvalidInput, InvalidJson, InvalidParameter

Body = TypeVar("Body", bound="StrictBody")


class StrictBody(BaseModel):
    """A JSON object without unknown fields, without conversions between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def parse_body(kind: type[Body], body: bytes) -> Body:
    """Parse `body`; raise `InvalidJson`, or `InvalidParameter` naming the first bad field."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise _in_our_words(first) from None


def parse_object(body: bytes) -> dict[str, object]:
    """Parse `body` as a JSON object with any fields; raise `InvalidJson`."""
    try:
        value = from_json(body)
    except ValueError as error:
        raise InvalidJson(f"The body must be valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise _not_an_object()
    return value


def _in_our_words(error: ErrorDetails) -> InvalidInput:
    param = _path(error["loc"])
    match error["type"]:
        case "json_invalid":
            reason = error["msg"].removeprefix("Invalid JSON: ")
            return InvalidJson(f"The body must be valid JSON: {reason}.")
        case "extra_forbidden":
            return InvalidParameter(f"Unknown field `{param}`. Leave it out.", param=param)
        case "missing":
            return InvalidParameter(f"`{param}` is required.", param=param)
        case _ if not error["loc"]:
            return _not_an_object()
        case _:
            rule = error["msg"].removeprefix("Input should be ")
            given = type(error["input"]).__name__
            return InvalidParameter(f"`{param}` must be {rule}. Given: {given}.", param=param)


def _not_an_object() -> InvalidJson:
    return InvalidJson("The body must be a JSON object.")


def _path(location: tuple[int | str, ...]) -> str:
    """Write a location as `messages[2].content`, at most 100 characters of it."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path[:100]
