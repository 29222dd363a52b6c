import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mooring.protocol.tool_calls.formats import TOOL_FORMATS
from mooring.protocol.tool_calls.pieces import CallStart, Piece, SaidText

Said = list[str | tuple[str, str]]


def joined(pieces: Iterable[Piece]) -> Said:
    """Join texts and arguments that follow each other."""
    said: Said = []
    for piece in pieces:
        last = said[-1] if said else None
        if isinstance(piece, CallStart):
            said.append((piece.name, ""))
        elif isinstance(piece, SaidText):
            if isinstance(last, str):
                said[-1] = last + piece.text
            else:
                said.append(piece.text)
        else:
            assert isinstance(last, tuple)
            said[-1] = (last[0], last[1] + piece.text)
    return said


def read(format: str, parts: Sequence[str], *, eager: bool) -> Said:
    parser = TOOL_FORMATS[format].parser(eager=eager)
    pieces = [piece for part in parts for piece in parser.push(part)]
    return joined([*pieces, *parser.finish()])


ARGUMENTS = '{"city": "Zü}rich\\"", "days": [1, {"a": null}]}'
CALL: dict[str, Any] = {"name": "get_weather", "arguments": json.loads(ARGUMENTS)}
OBJECT = '{"name": "get_weather", "arguments": ' + ARGUMENTS + "}"
LLAMA = '{"name": "get_weather", "parameters": ' + ARGUMENTS + "}"
ONE = ("get_weather", ARGUMENTS)
SORTED = ("get_weather", json.dumps(json.loads(ARGUMENTS), ensure_ascii=False))
SWAPPED = json.dumps(dict(reversed(CALL.items())), ensure_ascii=False)

WELL_FORMED: list[tuple[str, str, Said]] = [
    ("hermes", f"<tool_call>\n{OBJECT}\n</tool_call>", [ONE]),
    ("hermes", f"\n<tool_call>{OBJECT}</tool_call>\n<tool_call>{OBJECT}</tool_call>\n", [ONE] * 2),
    ("hermes", f"Let me see.\n<tool_call>\n{OBJECT}\n</tool_call>", ["Let me see.\n", ONE]),
    ("hermes", f"<tool_call>{OBJECT}</tool_call>\nDone.", [ONE, "\nDone."]),
    ("hermes", f"<tool_call>{OBJECT}", [ONE]),
    ("hermes", f"<tool_call>{SWAPPED}</tool_call>", [SORTED]),
    ("hermes", '<tool_call>{"name": "now", "arguments": {}, "id": 3}</tool_call>', [("now", "{}")]),
    ("llama3", LLAMA, [ONE]),
    ("llama3", f" \n{LLAMA}; {LLAMA}", [ONE, ONE]),
    ("llama3", f"<|python_tag|>{LLAMA};<|python_tag|>{LLAMA}", [ONE, ONE]),
    ("llama3", f"I look.<|python_tag|>{LLAMA}", ["I look.", ONE]),
    ("llama3", '{"type": "function", "name": "now", "parameters": {}}', [("now", "{}")]),
    ("mistral", f"[TOOL_CALLS][{OBJECT}]", [ONE]),
    ("mistral", f"[TOOL_CALLS] [{OBJECT}, {OBJECT}]", [ONE, ONE]),
    ("mistral", f"So: [TOOL_CALLS]get_weather{ARGUMENTS}", ["So: ", ONE]),
    ("mistral", f"[TOOL_CALLS]get_weather{ARGUMENTS}" * 2, [ONE, ONE]),
    ("mistral", f"[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{ARGUMENTS}", [ONE]),
]  # fmt: skip

# No calls: given as text, every character of it.
TEXTS: list[tuple[str, str]] = [
    ("hermes", ""),
    ("hermes", " \n"),
    ("hermes", "Just text, with {braces} and <tags>.\n"),
    ("hermes", "<tool_call>"),
    ("hermes", "<tool_c"),
    ("hermes", "<tool_call>what is that</tool_call>"),
    ("hermes", '<tool_call>{"name": "f"}</tool_call>'),
    ("hermes", '<tool_call>{"name": "f", "arguments": "x"}</tool_call>'),
    ("hermes", '<tool_call>{"name": 3, "arguments": {}}</tool_call>'),
    ("llama3", '{"answer": 42}'),
    ("llama3", "{ not json"),
    ("llama3", '<|python_tag|>print("hello")'),
    ("llama3", f"Here it is: {LLAMA}"),
    ("mistral", f"No: [{OBJECT}]"),
    ("mistral", "[TOOL_CALLS]"),
    ("mistral", "[TOOL_CALLS] stands before {calls}"),
    ("mistral", "[TOOL_CALLS][1, 2]"),
]

# Calls that are broken off or no valid JSON: text as a whole, begun calls in a stream.
BROKEN: list[tuple[str, str, Said]] = [
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": "lo', [("f", '{"a": "lo')]),
    ("hermes", '<tool_call>{"name": "f", "arguments": {a: 1}}</tool_call>', [("f", "{a: 1}")]),
    ("hermes", '<tool_call>{"name": "f", "arguments": {}</tool_call>', [("f", "{}")]),
    ("llama3", '{"name": "f", "parameters": {"a"', [("f", '{"a"')]),
    ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {]', [("f", "{]")]),
    ("mistral", "[TOOL_CALLS]f{a}", [("f", "{a}")]),
]


@pytest.mark.parametrize(("format", "text", "said"), WELL_FORMED)
@pytest.mark.parametrize("eager", [False, True])
def test_calls_are_found(format: str, text: str, said: Said, eager: bool) -> None:
    assert read(format, [text], eager=eager) == said
    assert read(format, list(text), eager=eager) == said


@pytest.mark.parametrize(("format", "text"), TEXTS)
@pytest.mark.parametrize("eager", [False, True])
def test_what_is_no_call_is_text(format: str, text: str, eager: bool) -> None:
    expected = [text] if text else []
    assert read(format, [text], eager=eager) == expected
    assert read(format, list(text), eager=eager) == expected


@pytest.mark.parametrize(("format", "text", "streamed"), BROKEN)
def test_a_broken_call_is_text_unless_it_was_sent(format: str, text: str, streamed: Said) -> None:
    assert read(format, [text], eager=False) == [text]
    assert read(format, list(text), eager=True) == streamed


def test_an_eager_parser_gives_arguments_as_they_come() -> None:
    parser = TOOL_FORMATS["hermes"].parser(eager=True)
    assert parser.push('<tool_call>\n{"name": "f", "argu') == []
    assert joined(parser.push('ments": {"a": ')) == [("f", '{"a": ')]
    assert [getattr(piece, "text", "") for piece in parser.push("1, ")] == ["1, "]
    assert [getattr(piece, "text", "") for piece in parser.push('"b": 2}}\n')] == ['"b": 2}']
    assert parser.push("</tool_call>") == []
    assert parser.finish() == []


def test_text_is_given_at_once() -> None:
    parser = TOOL_FORMATS["hermes"].parser(eager=True)
    assert parser.push("a < b <") == [SaidText("a < b ")]
    assert parser.push("t") == []
    assert parser.push("x") == [SaidText("<tx")]


SNIPPETS = [
    "<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", OBJECT, LLAMA, "f",
    '{"name": "f", "arguments": {', '{"name": ', "{", "}", "[", "]", ",", ";", '"', "\\", " ", "\n",
    "text", "é😀", "<", "[", '"x": 1', '{"a": 1}',
]  # fmt: skip
ANSWERS = st.lists(st.sampled_from(SNIPPETS) | st.text(max_size=3), max_size=14).map("".join)


def cut(text: str, cuts: Iterable[int]) -> list[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@pytest.mark.parametrize("format", sorted(TOOL_FORMATS))
@settings(max_examples=400, deadline=None)
@given(answer=ANSWERS, cuts=st.lists(st.integers(0, 10_000), max_size=12), eager=st.booleans())
@example(answer=f"<tool_call>{OBJECT}</tool_call>", cuts=[3, 40], eager=True)
def test_any_cut_gives_the_same(format: str, answer: str, cuts: list[int], eager: bool) -> None:
    whole = read(format, [answer], eager=eager)
    assert read(format, cut(answer, cuts), eager=eager) == whole
    assert read(format, list(answer), eager=eager) == whole
    if not any(isinstance(said, tuple) for said in whole):
        assert "".join(str(said) for said in whole) == answer
    if not eager:
        for said in whole:
            assert isinstance(said, str) or isinstance(json.loads(said[1]), dict)


TEXT_BESIDE = st.text(st.characters(exclude_characters="<[{};"), min_size=1, max_size=20).filter(
    lambda text: text.strip() == text
)
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
OBJECTS = st.dictionaries(
    st.text(max_size=6),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=12),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
        max_leaves=6,
    ),
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(
    text=TEXT_BESIDE,
    calls=st.lists(st.tuples(NAMES, OBJECTS, st.booleans()), min_size=1, max_size=3),
    eager=st.booleans(),
)
def test_what_was_written_is_read(text: str, calls: list[Any], eager: bool) -> None:
    written = [(name, json.dumps(value, ensure_ascii=ascii)) for name, value, ascii in calls]
    objects = [f'{{"name": "{name}", "arguments": {value}}}' for name, value in written]
    answers = {
        "hermes": text + "\n".join(f"<tool_call>\n{one}\n</tool_call>" for one in objects),
        "llama3": f"{text}<|python_tag|>" + "; ".join(objects),
        "mistral": f"{text}[TOOL_CALLS][" + ", ".join(objects) + "]",
    }
    for format, answer in answers.items():
        assert read(format, list(answer), eager=eager) == [text, *written]
    named = text + "".join(f"[TOOL_CALLS]{name}{value}" for name, value in written)
    assert read("mistral", [named], eager=eager) == [text, *written]


def test_a_long_answer_is_read_in_time_that_grows_with_it() -> None:
    """Each character costs the same: a call held back until its end is not read again and again."""
    long = '{"arguments": {"text": "' + "a" * 20_000 + '"}, "name": "f"}'
    parser = TOOL_FORMATS["llama3"].parser(eager=True)
    asked = 0
    for character in long[:-1]:
        asked += len(parser.push(character))
    assert asked == 0
    assert joined([*parser.push("}"), *parser.finish()])[0][0] == "f"
