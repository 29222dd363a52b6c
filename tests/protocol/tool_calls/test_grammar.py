"""What the grammar of a required call lets through is read as calls that keep to the schemas."""

import json
import random
from typing import Any

import jsonschema
import pytest
from llguidance import LLMatcher, LLTokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mooring.generation import Tool
from mooring.protocol.tool_calls.formats import TOOL_FORMATS
from mooring.protocol.tool_calls.grammar import required_calls
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


def byte_tokenizer() -> LLTokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: id for id, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
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
