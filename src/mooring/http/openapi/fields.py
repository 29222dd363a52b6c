"""JSON schemas of what bodies hold, made from the tables that check them."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from mooring.generation import SAMPLING_FIELDS, SamplingField
from mooring.generation.sampling import (
    MAX_BIASED_TOKENS,
    MAX_INT,
    MAX_STRING_CHARACTERS,
)

Schema = dict[str, Any]


def sampling_schemas() -> dict[str, Schema]:
    """Return the schema of every sampling parameter; null counts as not given."""
    return {field.name: _sampling(field) for field in SAMPLING_FIELDS}


def body_schema(
    model: type[BaseModel], known: Mapping[str, Schema], off: Mapping[str, tuple[Any, ...]]
) -> Schema:
    """Return the schema of a body: `known` fields in place of those that `model` leaves open.

    A field of `off` may have one of the values there, or be null.
    """
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    properties: dict[str, Schema] = schema["properties"]
    for name in properties:
        if name in off:
            properties[name] = {"enum": [None, *off[name]]}
        elif name in known:
            properties[name] = known[name]
        properties[name].pop("title", None)
    schema.pop("title", None)
    return schema


def _sampling(field: SamplingField) -> Schema:
    match field.kind:
        case "int" | "float":
            low = "exclusiveMinimum" if field.low_open else "minimum"
            kind = "integer" if field.kind == "int" else "number"
            schema: Schema = {"type": [kind, "null"], low: field.low, "maximum": field.high}
        case "bool":
            schema = {"type": ["boolean", "null"]}
        case "strings":
            text = {"type": "string", "minLength": 1, "maxLength": MAX_STRING_CHARACTERS}
            several = {"type": "array", "items": text, "maxItems": field.high}
            schema = {"anyOf": [text, several, {"type": "null"}]}
        case "token_ids":
            token = {"type": "integer", "minimum": 0, "maximum": MAX_INT}
            schema = {"type": ["array", "null"], "items": token, "maxItems": field.high}
        case "token_bias":
            bias = {"type": "number", "minimum": field.low, "maximum": field.high}
            schema = {
                "type": ["object", "string", "null"],
                "propertyNames": {"pattern": "^[0-9]+$"},
                "additionalProperties": bias,
                "maxProperties": MAX_BIASED_TOKENS,
            }
    return {**schema, "description": field.doc}
