"""From a call that may use tools to one that a model can answer: what it must see and keep to."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TypeVar

from mooring.errors import UnsupportedParameter
from mooring.generation import Conversation
from mooring.protocol.openai.fields import OpenAICall
from mooring.protocol.tool_calls.formats import ToolFormat
from mooring.protocol.tool_calls.grammar import possible_calls, required_calls
from mooring.protocol.tool_calls.use import ToolUse

AnyCall = TypeVar("AnyCall", bound=OpenAICall)
SpecialMarks = Callable[[Sequence[str]], Collection[str]]


def with_tools(
    call: AnyCall, format: ToolFormat | None, special: SpecialMarks, *, strict: str
) -> AnyCall:
    """Return `call` as a model is asked whose calls are read in `format`, or refuse it.

    `special` tells which marks are special tokens of the model. `strict` is where that field
    stands in a tool, for errors.
    """
    use = call.tool_use
    assert use is not None
    strict_param = _first_strict(use, strict)
    if format is None:
        return _without_reading(call, use, strict_param)
    if use.mode == "required":
        call = _demanding(call, use, format)
    elif strict_param is not None:
        call = _kept_to_schemas(call, use, format, special(format.marks), strict_param)
    return replace(call, marks=(*call.marks, *format.marks))


def _demanding(call: AnyCall, use: ToolUse, format: ToolFormat) -> AnyCall:
    if call.grammar is not None:
        raise UnsupportedParameter(
            "`tool_choice` that demands a call does not go with `response_format`. "
            "Leave one of them out.",
            param="tool_choice",
        )
    opening = format.writing.opening
    prompts = tuple(
        replace(prompt, opening=opening) if isinstance(prompt, Conversation) else prompt
        for prompt in call.prompts
    )
    return replace(call, prompts=prompts, grammar=required_calls(use, format.writing))


def _kept_to_schemas(
    call: AnyCall, use: ToolUse, format: ToolFormat, special: Collection[str], param: str
) -> AnyCall:
    """Return a call whose answer is free until the model begins to call."""
    if call.grammar is not None:
        raise UnsupportedParameter(
            "`strict` functions do not go with `response_format`. Leave one of them out.",
            param=param,
        )
    if not format.writing.may_begin(special):
        raise UnsupportedParameter(
            "`strict` functions are not supported where this model may choose to call: it begins "
            "calls with a special token that no grammar can name. Leave it out, or send "
            '`tool_choice` "required".',
            param=param,
        )
    return replace(call, grammar=possible_calls(use, format.writing, special, param=param))


def _first_strict(use: ToolUse, field: str) -> str | None:
    """Return where the first strict function says so."""
    strict = (index for index, tool in enumerate(use.tools) if tool.strict)
    return next((f"tools[{index}].{field}" for index in strict), None)


def _without_reading(call: AnyCall, use: ToolUse, strict_param: str | None) -> AnyCall:
    if strict_param is not None:
        raise UnsupportedParameter(
            "`strict` functions are not supported: this server does not read the calls of its "
            "model. Leave it out, or start the server with --tool-format.",
            param=strict_param,
        )
    if use.mode == "required":
        raise UnsupportedParameter(
            "`tool_choice` that demands a call is not supported: this server does not read the "
            "calls of its model. Start it with --tool-format.",
            param="tool_choice",
        )
    return call
