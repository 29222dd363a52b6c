"""What the grammar of a required call lets through is read as calls that keep to the schemas."""

import json
import random
from typing import Any

import jsonschema
import pytest
from llguidance import LLMatcher, LLTokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mooring.errors import UnsupportedParameter
from mooring.generation import Tool
from mooring.protocol.openai.chat import parse_chat
from mooring.protocol.tool_calls.asking import with_tools
from mooring.protocol.tool_calls.formats import TOOL_FORMATS
from mooring.protocol.tool_calls.grammar import possible_calls, required_calls
from mooring.protocol.tool_calls.use import ToolUse
from tests.protocol.tool_calls.test_parsers import joined

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 5},
        "unit": {"enum": ["C", "F"]},
        "days": {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
NOW: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS = (Tool("get_weather", None, WEATHER), Tool("now", "The time.", NOW))
SCHEMAS = {tool.name: tool.parameters for tool in TOOLS}
END = 256


def byte_tokenizer(*marks: str) -> LLTokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: id for id, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True) for token in ("</s>", *marks)]
    tokenizer.add_special_tokens(special)
    return LLTokenizer(tokenizer.to_str(), eos_token=END)


def answers(source: str, number: int) -> list[str]:
    """Make up answers that a grammar lets through, byte by byte."""
    tokenizer, found = byte_tokenizer(), list[str]()
    for seed in range(number):
        matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(source))
        assert not matcher.get_error(), source
        chance, ids = random.Random(seed), list[int]()
        while not matcher.is_stopped() and len(ids) < 2000:
            mask = matcher.compute_bitmask()
            allowed = [id for id in range(END + 1) if mask[id // 8] >> (id % 8) & 1]
            ids.append(END if END in allowed and chance.random() < 0.5 else chance.choice(allowed))
            matcher.consume_token(ids[-1])
        assert matcher.is_stopped()
        found.append(tokenizer.decode_str([id for id in ids if id != END]))
    return found


@pytest.mark.parametrize("name", sorted(TOOL_FORMATS))
@pytest.mark.parametrize("parallel", [False, True])
def test_required_calls_are_calls(name: str, parallel: bool) -> None:
    format = TOOL_FORMATS[name]
    use = ToolUse(TOOLS, "required", TOOLS, parallel)
    numbers = set()
    for answer in answers(required_calls(use, format.writing).source, 12):
        for eager in (False, True):
            reader = format.reader(use, eager=eager)
            calls = joined([*reader.push(answer), *reader.finish()])
            for call in calls:
                assert isinstance(call, tuple), answer
                jsonschema.validate(json.loads(call[1]), SCHEMAS[call[0]])
            numbers.add(len(calls))
    assert max(numbers) > 1 if parallel else numbers == {1}


def test_a_named_function_is_the_only_one() -> None:
    format = TOOL_FORMATS["hermes"]
    use = ToolUse(TOOLS, "required", TOOLS[1:], parallel=False)
    for answer in answers(required_calls(use, format.writing).source, 4):
        reader = format.reader(use, eager=False)
        (call,) = joined([*reader.push(answer), *reader.finish()])
        assert isinstance(call, tuple)
        assert (call[0], json.loads(call[1])) == ("now", {})


MIXED = (Tool("get_weather", None, WEATHER, strict=True), Tool("now", None, NOW))
CALL = {
    "hermes": '<tool_call>\n{"name": "%s", "arguments": %s}\n</tool_call>',
    "llama3": '<|python_tag|>{"name": "%s", "parameters": %s}',
    "mistral": '[TOOL_CALLS][{"name": "%s", "arguments": %s}]',
}
GOOD = '{"city": "Bern", "unit": "C"}'


def accepted(
    name: str, answer: str, special: tuple[str, ...] = (), *, parallel: bool = True
) -> bool:
    """Say whether the grammar of possible calls lets an answer through."""
    tokenizer = byte_tokenizer(*special)
    grammar = possible_calls(
        ToolUse(MIXED, parallel=parallel), TOOL_FORMATS[name].writing, special, param="tools"
    )
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(grammar.source))
    assert not matcher.get_error(), grammar.source
    ids = tokenizer.tokenize_str(answer)
    return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())


@pytest.mark.parametrize(
    ("name", "special"),
    [("hermes", False), ("hermes", True), ("llama3", False), ("llama3", True), ("mistral", False)],
)
def test_where_a_model_may_call_only_calls_are_kept_to_schemas(name: str, special: bool) -> None:
    marks = (TOOL_FORMATS[name].marks[0],) if special else ()
    for said in ("", "Zürich\n{}<tool", "[1]<|py"):
        assert accepted(name, said, marks)
        assert accepted(name, said + CALL[name] % ("get_weather", GOOD), marks)
        assert accepted(name, said + CALL[name] % ("now", '{"more": [1, {"a": "{"}]}'), marks)
        for other in ("get_weather", '{"city": "Bern"}'), ("get_time", GOOD), ("now", "[]"):
            assert not accepted(name, said + CALL[name] % other, marks)
        assert not accepted(name, said + (CALL[name] % ("get_weather", GOOD))[:-1], marks)


def test_a_whole_answer_of_json_is_a_call_where_calls_are_bare() -> None:
    assert accepted("llama3", CALL["llama3"].removeprefix("<|python_tag|>") % ("get_weather", GOOD))
    assert not accepted("llama3", '{"name": "get_weather", "parameters": {}}')
    assert not accepted("llama3", ' {"title": "no call"}')


@pytest.mark.parametrize("name", ["hermes", "mistral"])
def test_one_call_where_only_one_is_allowed(name: str) -> None:
    call = CALL[name] % ("get_weather", GOOD)
    assert accepted(name, call + call)
    assert not accepted(name, call + call, parallel=False)
    assert accepted(name, call + " done", parallel=False)


def test_calls_that_no_grammar_can_let_begin_are_refused() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "f", "strict": True}}],
    }
    call = parse_chat(json.dumps(body).encode())
    with pytest.raises(UnsupportedParameter, match="special token that no grammar can name") as e:
        with_tools(call, TOOL_FORMATS["mistral"], lambda marks: marks, strict="function.strict")
    assert e.value.param == "tools[0].function.strict"


@pytest.mark.parametrize("space", [" ", "\n    "])
def test_little_white_space_stands_in_arguments(space: str) -> None:
    arguments = '{%s"city":%s"Bern",%s"unit": "C"%s}'
    assert accepted("llama3", CALL["llama3"] % ("get_weather", arguments % ((space,) * 4)))
    assert not accepted("llama3", CALL["llama3"] % ("get_weather", arguments % ((space * 2,) * 4)))
