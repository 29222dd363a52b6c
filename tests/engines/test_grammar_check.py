"""Grammars are tried in a process of their own: what is wrong is said, and hurts nobody."""

import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pytest

from mooring.engines.grammars import GrammarCheck
from mooring.errors import InvalidParameter
from mooring.generation import Grammar, GrammarKind
from tests.engines.conftest import SnapshotOf

GOOD = Grammar("json_schema", '{"type": "string", "maxLength": 3}')


@pytest.fixture(scope="module")
def check(snapshot_of: SnapshotOf) -> Iterator[GrammarCheck]:
    checking = GrammarCheck(snapshot_of("llama"))
    yield checking
    checking.close()
    assert checkers() == []


def checkers() -> list[psutil.Process]:
    own = psutil.Process().children()
    return [child for child in own if "mooring.engines.grammars.checker" in child.cmdline()]


def refusal(check: GrammarCheck, grammar: Grammar) -> InvalidParameter:
    with pytest.raises(InvalidParameter) as raised:
        check(grammar).result(60)
    return raised.value


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("json_object", ""),
        ("json_schema", GOOD.source),
        ("json_schema", '{"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}'),
        ("regex", "[a-z]{2,5}-(one|two)"),
        ("lark", 'start: WORD ("," WORD)*\nWORD: /[a-z]+/'),
        ("lark", "start: <s> /[a-z]+/"),
        ("choice", json.dumps(["yes", 'a "no"', "ä\n", "\x7f😀"])),
    ],
)
def test_what_can_be_used_passes(check: GrammarCheck, kind: GrammarKind, source: str) -> None:
    check(Grammar(kind, source)).result(60)


@pytest.mark.parametrize(
    ("kind", "source", "reason"),
    [
        ("json_schema", '{"type": "nothing"}', "Invalid type: nothing"),
        ("json_schema", '{"uniqueItems": true}', 'Unimplemented keys: ["uniqueItems"]'),
        ("json_schema", '{"$ref": "#/$defs/a"}', "Pointer '/$defs/a' does not exist"),
        ("json_schema", '{"$ref": "http://a.b/c"}', "is not present in a registry"),
        ("json_schema", '{"pattern": "(a", "type": "string"}', "unclosed group"),
        ("json_schema", '{"items": ' * 200 + "{}" + "}" * 200, "recursion limit exceeded"),
        ("json_schema", "[1]", "object"),
        ("regex", "a(?=b)", "look-around"),
        ("regex", "[" * 300, "invalid regex"),
        ("lark", "start: missing", 'unknown name: "missing"'),
        ("lark", "start: " + "(" * 5000, "too deeply nested"),
        ("lark", "start: <|nothing|>", "unknown special token"),
        ("json_schema", '{"type": "integer", "multipleOf": 99999989}', "too much time or memory"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(
    check: GrammarCheck, kind: GrammarKind, source: str, reason: str
) -> None:
    error = refusal(check, Grammar(kind, source, param="response_format.json_schema.schema"))
    assert error.param == "response_format.json_schema.schema"
    assert error.message.startswith("`response_format.json_schema.schema` cannot be used: ")
    assert reason in error.message
    assert len(error.message) < 400
    check(GOOD).result(60)


def chain(links: int, link: Any) -> str:
    definitions = {f"d{n}": link({"$ref": f"#/$defs/d{n + 1}"}) for n in range(links)}
    schema = {"$defs": definitions | {f"d{links}": {"type": "null"}}, "$ref": "#/$defs/d0"}
    return json.dumps(schema, separators=(",", ":"))


def test_long_chains_of_references_end_no_process(check: GrammarCheck) -> None:
    check(Grammar("regex", "one more")).result(60)
    before = checkers()
    check(Grammar("json_schema", chain(2300, lambda ref: {"items": ref}))).result(60)
    rules = "".join(f"r{n}: r{n + 1}\n" for n in range(5000))
    check(Grammar("lark", f'start: r0\n{rules}r5000: "a"')).result(60)
    assert checkers() == before


def test_what_is_too_long_is_not_even_tried(snapshot_of: SnapshotOf) -> None:
    check, before = GrammarCheck(snapshot_of("llama")), checkers()
    error = refusal(check, Grammar("regex", "a" * 100_001, param="structured_outputs.regex"))
    assert error.message == (
        "`structured_outputs.regex` must have at most 100000 characters. Given: 100001."
    )
    assert checkers() == before
    check.close()


def test_the_process_is_started_again_after_a_death(check: GrammarCheck) -> None:
    check(Grammar("regex", "an old one")).result(60)
    (process,) = checkers()
    process.kill()
    process.wait(10)
    check(Grammar("regex", "a new one")).result(60)
    assert checkers() != [process]


def test_closing_gives_up_what_waits(snapshot_of: SnapshotOf) -> None:
    check, before = GrammarCheck(snapshot_of("llama")), checkers()
    waiting: list[Future[None]] = [check(Grammar("regex", f"a{n}")) for n in range(50)]
    check.close()
    assert waiting[-1].cancelled()
    assert checkers() == before


def test_a_model_without_its_tokenizer_as_a_file_is_fine(tmp_path: Path) -> None:
    check = GrammarCheck(tmp_path)
    check(GOOD).result(60)
    check.close()
