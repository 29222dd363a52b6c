from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from mooring.errors import InvalidInput, InvalidJson, InvalidParameter
from mooring.protocol.body import Items, StrictBody, parse_body, parse_object
from mooring.protocol.openai.chat import ChatBody
from mooring.protocol.openai.decision_bodies import DecisionBody
from mooring.protocol.openai.responses import ResponseBody
from mooring.protocol.tokens import DetokenizeBody, TokenizeBody


class Inner(StrictBody):
    flag: bool = False


class Outer(StrictBody):
    name: str
    inner: Inner | None = None
    items: tuple[int, ...] = ()


def test_a_body_is_parsed() -> None:
    body = parse_body(Outer, b'{"name": "a", "inner": {"flag": true}, "items": [1]}')
    assert (body.name, body.inner, body.items) == ("a", Inner(flag=True), (1,))


@pytest.mark.parametrize(
    ("body", "error", "param", "message"),
    [
        (b"{}", InvalidParameter, "name", "`name` is required."),
        (b'{"name": 5}', InvalidParameter, "name", "`name` must be a valid string. Given: int."),
        (b'{"name": "a", "x": 1}', InvalidParameter, "x", "Unknown field `x`. Leave it out."),
        (b'{"name": "a", "inner": {"flag": 1}}', InvalidParameter, "inner.flag",
         "`inner.flag` must be a valid boolean. Given: int."),
        (b'{"name": "a", "inner": {"y": 1}}', InvalidParameter, "inner.y",
         "Unknown field `inner.y`. Leave it out."),
        (b'{"name": "a", "items": [1, "2"]}', InvalidParameter, "items[1]",
         "`items[1]` must be a valid integer. Given: str."),
        (b"[]", InvalidJson, None, "The body must be a JSON object."),
        (b"null", InvalidJson, None, "The body must be a JSON object."),
    ],
)  # fmt: skip
def test_the_first_fault_is_named(
    body: bytes, error: type[InvalidInput], param: str | None, message: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_body(Outer, body)
    assert type(raised.value) is error
    assert (raised.value.param, raised.value.message) == (param, message)


class Left(StrictBody):
    type: Literal["left"]
    sizes: list[int] = Field(min_length=1, max_length=2)


class Right(StrictBody):
    type: Literal["right"]
    name: str = Field(pattern="^[a-z]+$")


class Sides(StrictBody):
    sides: Items[Annotated[Left | Right, Field(discriminator="type")]]
    content: str | Items[Inner] = ""


@pytest.mark.parametrize(
    ("side", "param", "message"),
    [
        ('{"type": "up"}', "sides[0].type",
         "`sides[0].type` must be one of: 'left', 'right'. Given: 'up'."),
        ("{}", "sides[0].type", "`sides[0].type` is required."),
        ('{"type": "left", "sizes": []}', "sides[0].sizes",
         "`sides[0].sizes` must have at least 1 items. Given: 0."),
        ('{"type": "left", "sizes": [1, 2, 3]}', "sides[0].sizes",
         "`sides[0].sizes` must have at most 2 items. Given: 3."),
        ('{"type": "right"}', "sides[0].name", "`sides[0].name` is required."),
        ('{"type": "right", "name": "a b"}', "sides[0].name",
         "`sides[0].name` must match ^[a-z]+$. Given: 'a b'."),
    ],
)  # fmt: skip
def test_a_fault_in_one_of_several_kinds_is_named_as_it_was_sent(
    side: str, param: str, message: str
) -> None:
    with pytest.raises(InvalidParameter) as raised:
        parse_body(Sides, f'{{"sides": [{side}]}}'.encode())
    assert (raised.value.param, raised.value.message) == (param, message)


@pytest.mark.parametrize(
    ("content", "param"), [("5", "content"), ('[{"flag": 1}]', "content[0].flag")]
)
def test_a_field_of_several_types_is_named_by_the_one_that_fits(content: str, param: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        parse_body(Sides, f'{{"sides": [], "content": {content}}}'.encode())
    assert raised.value.param == param


@pytest.mark.parametrize(
    ("kind", "field", "item"),
    [
        (ChatBody, "tools", "{}"),
        (ResponseBody, "tools", "{}"),
        (TokenizeBody, "tools", "{}"),
        (DetokenizeBody, "tokens", '"a"'),
        (DecisionBody, "input", "{}"),
        (DecisionBody, "questions", "{}"),
    ],
)
def test_a_long_list_of_faults_is_not_collected(
    kind: type[StrictBody], field: str, item: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        kind.model_validate_json(f'{{"{field}": [{", ".join([item] * 100)}]}}')
    assert raised.value.error_count() < 10


def test_a_constant_is_told_what_was_given() -> None:
    with pytest.raises(InvalidParameter) as raised:
        parse_body(Left, b'{"type": "right", "sizes": [1]}')
    assert raised.value.message == "`type` must be 'left'. Given: 'right'."


BROKEN = {
    "empty": b"",
    "cut": b'{"name": "secret pas',
    "deep": b'{"name":' + b"[" * 100_000,
    "long number": b'{"name":' + b"9" * 5000 + b"}",
    "lone surrogate": b'{"name":"\\ud800"}',
    "invalid utf-8": b'{"name":"\xff"}',
    "byte order mark": b"\xef\xbb\xbf{}",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_what_is_not_json_is_refused_without_repeating_it(body: bytes) -> None:
    for parse in (lambda: parse_body(Outer, body), lambda: parse_object(body)):
        with pytest.raises(InvalidJson, match=r"^The body must be valid JSON: ") as raised:
            parse()
        assert "secret" not in raised.value.message
        assert len(raised.value.message) < 120


def test_an_object_may_have_any_fields() -> None:
    assert parse_object(b'{"a": 1, "b": [null]}') == {"a": 1, "b": [None]}
    with pytest.raises(InvalidJson, match="must be a JSON object"):
        parse_object(b'"a"')


def test_a_path_is_shown_but_not_at_length() -> None:
    with pytest.raises(InvalidParameter) as raised:
        parse_body(Outer, b'{"name": "a", "' + b"x" * 9000 + b'": 1}')
    assert len(raised.value.message) < 150
