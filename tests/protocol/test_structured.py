"""What clients say an answer has to be, and what is wrong with it."""

import json
from typing import Any

import pytest

from mooring.errors import InvalidParameter, UnsupportedParameter
from mooring.generation import Grammar
from mooring.protocol.openai.chat import parse_chat
from mooring.protocol.openai.completions import parse_completion
from mooring.protocol.openai.structured import parse_structure

SCHEMA = {"type": "object", "properties": {"é": {"type": "integer"}}}
NAMED = {"name": "answer", "schema": SCHEMA}


def of_schema(**fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": NAMED | fields}


@pytest.mark.parametrize(
    ("response_format", "grammar", "param"),
    [
        (None, None, ""),
        ({"type": "text"}, None, ""),
        ({"type": "json_object"}, Grammar("json_object"), "response_format"),
        (
            of_schema(strict=True, description="d"),
            Grammar("json_schema", json.dumps(SCHEMA)),
            "response_format.json_schema.schema",
        ),
        (
            of_schema(strict=None, description=None),
            Grammar("json_schema", json.dumps(SCHEMA)),
            "response_format.json_schema.schema",
        ),
        (of_schema(schema=None), Grammar("json_object"), "response_format.json_schema.schema"),
    ],
)
def test_formats_become_grammars(response_format: Any, grammar: Grammar | None, param: str) -> None:
    found = parse_structure(response_format, None)
    assert found == grammar
    assert found is None or found.param == param


@pytest.mark.parametrize(
    ("outputs", "grammar", "name"),
    [
        ({"json": SCHEMA}, Grammar("json_schema", json.dumps(SCHEMA)), "json"),
        ({"json": json.dumps(SCHEMA)}, Grammar("json_schema", json.dumps(SCHEMA)), "json"),
        ({"json_object": True, "json": None}, Grammar("json_object"), "json_object"),
        ({"regex": "a+", "json_object": False}, Grammar("regex", "a+"), "regex"),
        ({"choice": ["a", "b"]}, Grammar("choice", '["a", "b"]'), "choice"),
        ({"grammar": 'start: "a"'}, Grammar("lark", 'start: "a"'), "grammar"),
    ],
)
def test_structured_outputs_become_grammars(outputs: Any, grammar: Grammar, name: str) -> None:
    found = parse_structure({"type": "text"}, outputs)
    assert found == grammar
    assert found is not None
    assert found.param == f"structured_outputs.{name}"


@pytest.mark.parametrize(
    ("response_format", "param"),
    [
        ("json_object", "response_format"),
        ({}, "response_format.type"),
        ({"type": "xml"}, "response_format.type"),
        ({"type": "text", "json_schema": NAMED}, "response_format.json_schema"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "schema": SCHEMA}, "response_format.schema"),
        (of_schema(name="two words"), "response_format.json_schema.name"),
        (of_schema(name="a" * 65), "response_format.json_schema.name"),
        (of_schema(description=3), "response_format.json_schema.description"),
        (of_schema(strict=1), "response_format.json_schema.strict"),
        (of_schema(schema="{}"), "response_format.json_schema.schema"),
        (of_schema(schema=[]), "response_format.json_schema.schema"),
        (of_schema(other=1), "response_format.json_schema.other"),
    ],
)
def test_what_is_wrong_with_a_format_is_named(response_format: Any, param: str) -> None:
    with pytest.raises((InvalidParameter, UnsupportedParameter), match=param) as raised:
        parse_structure(response_format, None)
    assert raised.value.param == param


@pytest.mark.parametrize(
    ("outputs", "param"),
    [
        ("a", "structured_outputs"),
        ({}, "structured_outputs"),
        ({"json_object": False}, "structured_outputs"),
        ({"regex": "a", "choice": ["a"]}, "structured_outputs"),
        ({"json": "{"}, "structured_outputs.json"),
        ({"json": 1}, "structured_outputs.json"),
        ({"json_object": 1}, "structured_outputs.json_object"),
        ({"regex": ""}, "structured_outputs.regex"),
        ({"regex": ["a"]}, "structured_outputs.regex"),
        ({"grammar": 1}, "structured_outputs.grammar"),
        ({"choice": []}, "structured_outputs.choice"),
        ({"choice": [1]}, "structured_outputs.choice"),
        ({"choice": [""]}, "structured_outputs.choice"),
        ({"choice": ["a"] * 1001}, "structured_outputs.choice"),
        ({"structural_tag": "{}", "regex": "a"}, "structured_outputs.structural_tag"),
    ],
)
def test_what_is_wrong_with_structured_outputs_is_named(outputs: Any, param: str) -> None:
    with pytest.raises((InvalidParameter, UnsupportedParameter), match=param) as raised:
        parse_structure(None, outputs)
    assert raised.value.param == param


def test_only_one_of_both_may_say_it() -> None:
    with pytest.raises(InvalidParameter, match="Send one of them") as raised:
        parse_structure({"type": "json_object"}, {"regex": "a"})
    assert raised.value.param == "structured_outputs"


def test_both_routes_have_both_fields() -> None:
    common: dict[str, Any] = {"model": "demo", "structured_outputs": {"regex": "a"}}
    chat = common | {"messages": [{"role": "user", "content": "x"}]}
    completion = common | {"prompt": "x"}
    for call in (
        parse_chat(json.dumps(chat).encode()),
        parse_completion(json.dumps(completion).encode()),
    ):
        assert call.grammar == Grammar("regex", "a")
