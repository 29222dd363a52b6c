"""What answers have to be: OpenAI's `response_format` and vLLM's `structured_outputs`."""

import json
import re
from collections.abc import Mapping
from typing import Any

from mooring.errors import InvalidParameter, UnsupportedParameter
from mooring.generation import Grammar

_FORMATS = ("text", "json_object", "json_schema")
_SCHEMA_FIELDS = ("name", "description", "schema", "strict")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_OUTPUTS = ("json", "json_object", "regex", "choice", "grammar")
_MOST_CHOICES, _LONGEST_CHOICE = 1000, 1000


def parse_structure(response_format: Any, structured_outputs: Any) -> Grammar | None:
    """Return the grammar that either field asks for; raise an `InvalidInput` naming the field."""
    grammar = None if response_format is None else _of_format(response_format)
    outputs = None if structured_outputs is None else _of_outputs(structured_outputs)
    if grammar is not None and outputs is not None:
        raise InvalidParameter(
            "`response_format` and `structured_outputs` both say what the answer has to be. "
            "Send one of them.",
            param="structured_outputs",
        )
    return grammar or outputs


def parse_text_format(value: Any) -> Grammar | None:
    """Return the grammar of `text.format` of `/v1/responses`, which has the schema in itself."""
    path = "text.format"
    fields = _object(value, path)
    kind = _kind(fields, path)
    if kind == "json_schema":
        return _of_schema_format({k: v for k, v in fields.items() if k != "type"}, path)
    _refuse_unknown(fields, ("type",), path)
    return Grammar("json_object", param=path) if kind == "json_object" else None


def _of_format(value: Any) -> Grammar | None:
    path = "response_format"
    fields = _object(value, path)
    kind = _kind(fields, path)
    _refuse_unknown(fields, ("type", "json_schema") if kind == "json_schema" else ("type",), path)
    if kind == "json_schema":
        return _of_schema_format(fields.get("json_schema"), f"{path}.json_schema")
    return Grammar("json_object") if kind == "json_object" else None


def _kind(fields: Mapping[str, Any], path: str) -> str:
    kind = fields.get("type")
    if kind not in _FORMATS:
        raise InvalidParameter(
            f"`{path}.type` must be one of: {', '.join(_FORMATS)}. Given: {str(kind)[:40]}.",
            param=f"{path}.type",
        )
    return str(kind)


def _of_schema_format(value: Any, path: str) -> Grammar:
    fields = _object(value, path)
    _refuse_unknown(fields, _SCHEMA_FIELDS, path)
    name, strict, about = (fields.get(field) for field in ("name", "strict", "description"))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidParameter(
            f"`{path}.name` must be 1 to 64 letters, digits, underscores or dashes.",
            param=f"{path}.name",
        )
    if about is not None and not isinstance(about, str):
        raise InvalidParameter(
            f"`{path}.description` must be a string.", param=f"{path}.description"
        )
    if strict is not None and not isinstance(strict, bool):
        raise InvalidParameter(f"`{path}.strict` must be true or false.", param=f"{path}.strict")
    if fields.get("schema") is None:
        return Grammar("json_object", param=f"{path}.schema")
    return _schema(fields["schema"], f"{path}.schema")


def _of_outputs(value: Any) -> Grammar:
    fields = _object(value, "structured_outputs")
    _refuse_unknown(fields, _OUTPUTS, "structured_outputs")
    given = [name for name in _OUTPUTS if fields.get(name) not in (None, False)]
    if len(given) != 1:
        raise InvalidParameter(
            f"`structured_outputs` must have exactly one of: {', '.join(_OUTPUTS)}. "
            f"Given: {', '.join(given) or 'none'}.",
            param="structured_outputs",
        )
    path, form = f"structured_outputs.{given[0]}", fields[given[0]]
    match given[0]:
        case "json":
            return _schema(_from_text(form, path), path)
        case "json_object":
            if form is not True:
                raise InvalidParameter(f"`{path}` must be true or false.", param=path)
            return Grammar("json_object", param=path)
        case "choice":
            return _choice(form, path)
        case name:
            if not isinstance(form, str) or not form:
                raise InvalidParameter(f"`{path}` must be a string that is not empty.", param=path)
            return Grammar("regex" if name == "regex" else "lark", form, param=path)


def _schema(value: Any, path: str) -> Grammar:
    return Grammar("json_schema", json.dumps(_object(value, path)), param=path)


def _from_text(value: Any, path: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise InvalidParameter(f"`{path}` given as text must be JSON.", param=path) from None


def _choice(value: Any, path: str) -> Grammar:
    if (
        not isinstance(value, list)
        or not 1 <= len(value) <= _MOST_CHOICES
        or not all(isinstance(c, str) and 1 <= len(c) <= _LONGEST_CHOICE for c in value)
    ):
        raise InvalidParameter(
            f"`{path}` must be a list of 1 to {_MOST_CHOICES} strings, each of 1 to "
            f"{_LONGEST_CHOICE} characters.",
            param=path,
        )
    return Grammar("choice", json.dumps(value), param=path)


def _object(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidParameter(
            f"`{path}` must be an object. Given: {type(value).__name__}.", param=path
        )
    return value


def _refuse_unknown(fields: Mapping[str, Any], known: tuple[str, ...], path: str) -> None:
    for name, value in fields.items():
        if name not in known and value is not None:
            param = f"{path}.{name[:40]}"
            raise UnsupportedParameter(f"`{param}` is not supported. Leave it out.", param=param)
