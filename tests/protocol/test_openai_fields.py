"""Every field that OpenAI documents is honoured, or refused by its name, or said to do nothing.

The fields are those of the `openai` package's own types, so that a new one fails here until it has
a verdict.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import openai.types.chat as chat_types
import openai.types.responses as response_types
import openai.types.shared_params as shared
import pytest
from openai.types import completion_create_params as completion_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as response_params
from openai.types.responses import response_input_param as response_input
from openai.types.shared_params import response_format_json_schema as json_schema_params

from mooring.errors import InvalidInput
from mooring.protocol.openai.chat import parse_chat
from mooring.protocol.openai.completions import parse_completion
from mooring.protocol.openai.responses import ResponseCall, parse_response

DOCUMENTED = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")

Body = dict[str, Any]
Parse = Callable[[bytes], Any]


@dataclass(frozen=True)
class Honoured:
    """Two values that ask for different things."""

    one: Any
    other: Any
    also: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Refused:
    """A value that is refused, and what of the path its error names, beside the field."""

    value: Any
    param: str | None = None


@dataclass(frozen=True)
class NoEffect:
    """A value that changes nothing, as the documentation says."""

    value: Any


USER = {"role": "user", "content": "hi"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f"}}
OTHER = {"type": "function", "function": {"name": "g"}}
SCHEMA = {"name": "s", "schema": {"type": "object"}}
RESPONSE_TOOL = {"type": "function", "name": "f", "parameters": None, "strict": None}
CHAT = {"model": "demo", "messages": [USER]}
BREAKPOINT = {"mode": "explicit"}
NUMBERS: dict[str, Honoured | Refused | NoEffect] = {
    "frequency_penalty": Honoured(1, 2), "presence_penalty": Honoured(1, 2), "seed": Honoured(1, 2),
    "temperature": Honoured(0, 1), "top_p": Honoured(0.5, 1), "n": Honoured(1, 2),
    "max_tokens": Honoured(1, 2), "stop": Honoured("a", ["b"]),
    "logit_bias": Honoured({"1": 1}, {}),
    "model": Honoured("a", "b"), "user": NoEffect("eve"),
    "stream_options": Honoured(
        {"include_usage": True}, {"include_usage": False}, {"stream": True}),
}  # fmt: skip
HINTS: dict[str, Honoured | Refused | NoEffect] = {
    "metadata": NoEffect({"a": "b"}), "safety_identifier": NoEffect("x"),
    "prompt_cache_key": NoEffect("x"), "prompt_cache_retention": NoEffect("24h"),
    "prompt_cache_options": NoEffect({"ttl": "30m"}),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """An object in a body: `into` puts its fields there, `path` is what errors call the place."""

    kinds: tuple[Any, ...]
    base: Mapping[str, Any]
    verdicts: Mapping[str, Honoured | Refused | NoEffect]
    into: Callable[[Body], Body] = dict
    parse: Parse = parse_chat
    path: str = ""


def in_chat(name: str, **more: Any) -> Callable[[Body], Body]:
    return lambda fields: {**CHAT, **more, name: fields}


def last(*before: Body) -> Callable[[Body], Body]:
    return lambda fields: {"model": "demo", "messages": [*before, fields]}


def item(*before: Body) -> Callable[[Body], Body]:
    return lambda fields: {"model": "demo", "input": [*before, fields]}


ROLE, TEXT = Refused("nobody"), Honoured("a", "b")
NAME = Honoured("eve", "bob")
TYPE = Refused("nothing")

PLACES = {
    "chat": Place(
        (chat_params.CompletionCreateParamsBase,),
        CHAT,
        {
            **NUMBERS, **HINTS,
            "messages": Honoured([USER], [USER, USER]),
            "max_completion_tokens": Honoured(1, 2),
            "logprobs": Honoured(True, False),
            "top_logprobs": Honoured(1, 2, {"logprobs": True}),
            "response_format": Honoured({"type": "json_object"}, {"type": "text"}),
            "tools": Honoured([TOOL], [OTHER]),
            "tool_choice": Honoured("auto", "required", {"tools": [TOOL]}),
            "parallel_tool_calls": Honoured(True, False, {"tools": [TOOL]}),
            "audio": Refused({"voice": "x"}), "function_call": Refused("auto"),
            "functions": Refused([{"name": "f"}]), "modalities": Refused(["audio"]),
            "moderation": Refused({}), "prediction": Refused({"type": "content"}),
            "reasoning_effort": Refused("low"), "service_tier": Refused("flex"),
            "store": Refused(True), "verbosity": Refused("high"),
            "web_search_options": Refused({}),
        },
    ),
    "completions": Place(
        (completion_params.CompletionCreateParamsBase,),
        {"model": "demo", "prompt": "hi"},
        {
            **NUMBERS,
            "prompt": Honoured("a", [1]), "best_of": Honoured(2, 3), "echo": Honoured(True, False),
            "logprobs": Honoured(1, 2), "suffix": Refused("x"),
        },
        parse=parse_completion,
    ),
    "responses": Place(
        (response_params.ResponseCreateParamsBase,),
        {"model": "demo", "input": "hi"},
        {
            **HINTS, "metadata": Honoured({"a": "b"}, {}),
            "safety_identifier": Honoured("x", "y"), "prompt_cache_key": Honoured("x", "y"),
            "user": Honoured("x", "y"),
            "model": Honoured("a", "b"), "input": Honoured("a", "b"),
            "instructions": Honoured("a", "b"), "max_output_tokens": Honoured(1, 2),
            "temperature": Honoured(0, 1), "top_p": Honoured(0.5, 1),
            "text": Honoured({"format": {"type": "json_object"}}, {"format": {"type": "text"}}),
            "tools": Honoured([RESPONSE_TOOL], []),
            "tool_choice": Honoured("auto", "required", {"tools": [RESPONSE_TOOL]}),
            "parallel_tool_calls": Honoured(True, False, {"tools": [RESPONSE_TOOL]}),
            "stream_options": Refused(
                {"include_obfuscation": True}, "stream_options.include_obfuscation"),
            "access_programs": Refused(["x"]), "background": Refused(True),
            "background_options": Refused({}), "context_management": Refused([{}]),
            "conversation": Refused("c"), "image": Refused({}), "include": Refused(["x"]),
            "max_tool_calls": Refused(1), "moderation": Refused({}),
            "previous_response_id": Refused("r"), "prompt": Refused({"id": "p"}),
            "reasoning": Refused({"effort": "low"}), "service_tier": Refused("flex"),
            "store": Refused(True), "top_logprobs": Refused(1), "truncation": Refused("auto"),
        },
        parse=parse_response,
    ),
    "messages of system, developer and user": Place(
        (
            chat_types.ChatCompletionSystemMessageParam,
            chat_types.ChatCompletionDeveloperMessageParam,
            chat_types.ChatCompletionUserMessageParam,
        ),
        USER,
        {"role": Honoured("system", "user"), "content": TEXT, "name": NAME},
        last(), path="messages[0].",
    ),
    "messages of the assistant": Place(
        (chat_types.ChatCompletionAssistantMessageParam,),
        {"role": "assistant", "content": "a"},
        {
            "role": ROLE, "content": TEXT, "name": NAME, "tool_calls": Honoured([CALL], []),
            "refusal": Refused("no"), "audio": Refused({"id": "x"}),
            "function_call": Refused({"name": "f", "arguments": "{}"}),
        },
        last(), path="messages[0].",
    ),
    "messages of tools": Place(
        (chat_types.ChatCompletionToolMessageParam,),
        {"role": "tool", "content": "a", "tool_call_id": "c"},
        {"role": ROLE, "content": TEXT, "tool_call_id": Refused("other")},
        last({"role": "assistant", "content": None, "tool_calls": [CALL]}), path="messages[1].",
    ),
    "messages of functions": Place(
        (chat_types.ChatCompletionFunctionMessageParam,),
        {"content": "a"},
        {"role": Refused("function"), "content": Refused(None, "role"),
         "name": Refused("f", "role")},
        last(), path="messages[0].",
    ),
    "calls": Place(
        (chat_types.ChatCompletionMessageFunctionToolCallParam,),
        CALL,
        {"id": TEXT, "type": TYPE,
         "function": Honoured({"name": "f", "arguments": "{}"}, {"name": "g", "arguments": "{}"})},
        lambda call: last()({"role": "assistant", "content": "a", "tool_calls": [call]}),
        path="messages[0].tool_calls[0].",
    ),
    "text parts": Place(
        (chat_types.ChatCompletionContentPartTextParam,),
        {"type": "text", "text": "a"},
        {"type": Refused("image_url", ""), "text": TEXT,
         "prompt_cache_breakpoint": NoEffect(BREAKPOINT)},
        lambda part: last()({"role": "user", "content": [part]}), path="messages[0].content[0].",
    ),
    "other parts": Place(
        (chat_types.ChatCompletionContentPartRefusalParam,
         chat_types.ChatCompletionContentPartImageParam),
        {"type": "refusal"},
        {name: Refused({}, "") for name in
         ("type", "refusal", "image_url", "prompt_cache_breakpoint")},
        lambda part: last()({"role": "user", "content": [part]}), path="messages[0].content[0].",
    ),
    "tools": Place(
        (chat_types.ChatCompletionFunctionToolParam,), TOOL,
        {"type": TYPE, "function": Honoured({"name": "f"}, {"name": "g"})},
        lambda tool: in_chat("tools")([tool]), path="tools[0].",  # type: ignore[arg-type]
    ),
    "custom tools": Place(
        (chat_types.ChatCompletionCustomToolParam,), {"function": {"name": "f"}},
        {"type": Refused("custom"), "custom": Refused({"name": "f"}, "type")},
        lambda tool: in_chat("tools")([tool]), path="tools[0].",  # type: ignore[arg-type]
    ),
    "functions": Place(
        (shared.FunctionDefinition,), {"name": "f"},
        {"name": TEXT, "description": TEXT, "strict": Honoured(True, False),
         "parameters": Honoured({"type": "object"}, {"type": "object", "properties": {"a": {}}})},
        lambda f: in_chat("tools")([{**TOOL, "function": f}]),  # type: ignore[arg-type]
        path="tools[0].function.",
    ),
    "a named choice": Place(
        (chat_types.ChatCompletionNamedToolChoiceParam,),
        {"type": "function", "function": {"name": "f"}},
        {"type": Refused("nothing", "tool_choice"),
         "function": Honoured({"name": "f"}, {"name": "g"})},
        in_chat("tool_choice", tools=[TOOL, OTHER]),
    ),
    "other choices": Place(
        (chat_types.ChatCompletionAllowedToolChoiceParam,
         chat_types.ChatCompletionNamedToolChoiceCustomParam,
         response_types.ToolChoiceAllowedParam),
        {"type": "custom"},
        {"type": Refused("allowed_tools", "tool_choice"), "custom": Refused({}, "tool_choice"),
         "allowed_tools": Refused({}, "tool_choice"), "mode": Refused("auto", "tool_choice"),
         "tools": Refused([], "tool_choice")},
        in_chat("tool_choice", tools=[TOOL]),
    ),
    "formats of text and objects": Place(
        (shared.ResponseFormatText, shared.ResponseFormatJSONObject), {},
        {"type": Honoured("text", "json_object")}, in_chat("response_format"),
    ),
    "formats of schemas": Place(
        (shared.ResponseFormatJSONSchema,), {"type": "json_schema", "json_schema": SCHEMA},
        {"type": Refused("nothing"),
         "json_schema": Honoured(SCHEMA, {"name": "s", "schema": {"type": "string"}})},
        in_chat("response_format"), path="response_format.",
    ),
    "schemas": Place(
        (json_schema_params.JSONSchema,), SCHEMA,
        {"name": NoEffect("t"), "description": NoEffect("b"), "strict": NoEffect(True),
         "schema": Honoured({"type": "object"}, {"type": "string"})},
        lambda given: in_chat("response_format")({"type": "json_schema", "json_schema": given}),
        path="response_format.json_schema.",
    ),
    "stream options": Place(
        (chat_types.ChatCompletionStreamOptionsParam,), {},
        {"include_usage": Honoured(True, False), "include_obfuscation": Refused(True)},
        in_chat("stream_options", stream=True), path="stream_options.",
    ),
    "response messages": Place(
        (response_types.EasyInputMessageParam, response_input.Message,
         response_types.ResponseOutputMessageParam),
        {"type": "message", "role": "user", "content": "a"},
        {"type": TYPE, "role": Honoured("system", "user"), "content": TEXT,
         "phase": NoEffect("commentary"), "id": NoEffect("m"), "status": NoEffect("completed")},
        item(), parse_response, "input[0].",
    ),
    "response parts": Place(
        (response_types.ResponseInputTextParam, response_types.ResponseOutputTextParam),
        {"type": "input_text", "text": "a"},
        {"type": Refused("input_image", ""), "text": TEXT, "annotations": Refused([{}]),
         "logprobs": Refused([{}]), "prompt_cache_breakpoint": NoEffect(BREAKPOINT)},
        lambda part: item()({"role": "user", "content": [part]}),
        parse_response, "input[0].content[0].",
    ),
    "response calls": Place(
        (response_types.ResponseFunctionToolCallParam,),
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": TYPE, "call_id": TEXT, "name": TEXT, "arguments": Honoured("{}", '{"a": 1}'),
         "id": NoEffect("i"), "status": NoEffect("completed"), "async": Refused(True),
         "caller": Refused({"type": "direct"}), "namespace": Refused("n")},
        item(), parse_response, "input[0].",
    ),
    "results of response calls": Place(
        (response_input.FunctionCallOutput,),
        {"type": "function_call_output", "call_id": "c", "output": "a"},
        {"type": TYPE, "call_id": Refused("other"), "output": TEXT, "id": NoEffect("i"),
         "status": NoEffect("completed"), "caller": Refused({"type": "direct"}),
         "name": Refused("f"), "namespace": Refused("n")},
        item({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
        parse_response, "input[1].",
    ),
    "response tools": Place(
        (response_types.FunctionToolParam,), RESPONSE_TOOL,
        {"type": TYPE, "name": TEXT, "description": TEXT, "strict": Honoured(True, False),
         "parameters": Honoured({"type": "object"}, {"type": "object", "required": []}),
         "allowed_callers": Refused(["direct"]), "async": Refused(True),
         "defer_loading": Refused(True), "output_schema": Refused({})},
        lambda tool: {"model": "demo", "input": "a", "tools": [tool]},
        parse_response, "tools[0].",
    ),
    "response choices": Place(
        (response_types.ToolChoiceFunctionParam,), {"type": "function", "name": "f"},
        {"type": Refused("nothing", "tool_choice"), "name": Refused("other", "tool_choice")},
        lambda choice: {
            "model": "demo", "input": "a", "tools": [RESPONSE_TOOL], "tool_choice": choice},
        parse_response,
    ),
    "response text": Place(
        (response_types.ResponseTextConfigParam,), {},
        {"format": Honoured({"type": "json_object"}, {"type": "text"}),
         "verbosity": Refused("low")},
        lambda text: {"model": "demo", "input": "a", "text": text}, parse_response, "text.",
    ),
    "response schemas": Place(
        (response_types.ResponseFormatTextJSONSchemaConfigParam,),
        {"type": "json_schema", **SCHEMA},
        {"type": Refused("nothing"), "name": NoEffect("t"), "description": NoEffect("b"),
         "strict": NoEffect(True), "schema": Honoured({"type": "object"}, {"type": "string"})},
        lambda given: {"model": "demo", "input": "a", "text": {"format": given}},
        parse_response, "text.format.",
    ),
}  # fmt: skip

FIELDS = [(place, name) for place, about in PLACES.items() for name in about.verdicts]


def read(place: Place, fields: Mapping[str, Any]) -> Any:
    call = place.parse(json.dumps(place.into({**place.base, **fields})).encode())
    if isinstance(call, ResponseCall) and place.into is not dict:
        # What an answer repeats of the request is no effect of it.
        call = replace(call, body=call.body.model_copy(update=dict.fromkeys(("input", "text"))))
    return call


@pytest.mark.parametrize("where", PLACES)
def test_every_documented_field_has_a_verdict(where: str) -> None:
    place = PLACES[where]
    documented = {name for kind in place.kinds for name in get_type_hints(kind)}
    assert set(place.verdicts) - {"stream"} == documented


@pytest.mark.parametrize(("where", "name"), FIELDS)
def test_every_documented_field_is_honoured_or_refused_by_name(where: str, name: str) -> None:
    place = PLACES[where]
    match place.verdicts[name]:
        case Honoured(one, other, also):
            assert read(place, {**(also or {}), name: one}) != read(
                place, {**(also or {}), name: other}
            )
        case Refused(value, param):
            also = {"stream": True} if name == "stream_options" else {}
            with pytest.raises(InvalidInput) as refusal:
                read(place, {**also, name: value})
            expected = place.path + (name if param is None else param)
            assert refusal.value.param == expected.removesuffix(".")
            assert f"`{refusal.value.param}`" in refusal.value.message
        case NoEffect(value):
            call, before = read(place, {name: value}), read(place, {})
            if isinstance(call, ResponseCall):
                call = replace(call, body=before.body)
            assert call == before
            assert f"`{name}`" in DOCUMENTED
