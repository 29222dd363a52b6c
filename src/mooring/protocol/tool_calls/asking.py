"""From a call that may use tools to one that a model can answer: what it must see and keep to."""

from dataclasses import replace
from typing import TypeVar

from mooring.errors import UnsupportedParameter
from mooring.generation import Conversation
from mooring.protocol.openai.fields import OpenAICall
from mooring.protocol.tool_calls.formats import ToolFormat
from mooring.protocol.tool_calls.grammar import required_calls
from mooring.protocol.tool_calls.use import ToolUse

AnyCall = TypeVar("AnyCall", bound=OpenAICall)


def with_tools(call: AnyCall, format: ToolFormat | None, *, strict: str) -> AnyCall:
    """Return `call` as a model is asked whose calls are read in `format`, or refuse it.

    `strict` is where that field stands in a tool, for errors.
    """
    use = call.tool_use
    assert use is not None
    if format is None:
        return _without_reading(call, use, strict)
    if use.mode == "required":
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
        call = replace(call, prompts=prompts, grammar=required_calls(use, format.writing))
    else:
        _refuse_strict(use, strict)
    return replace(call, marks=format.marks)


def _refuse_strict(use: ToolUse, field: str) -> None:
    for index, tool in enumerate(use.tools):
        if tool.strict:
            raise UnsupportedParameter(
                "`strict` functions are not supported where a model may choose to call. Leave it "
                'out, or send `tool_choice` "required".',
                param=f"tools[{index}].{field}",
            )


def _without_reading(call: AnyCall, use: ToolUse, strict: str) -> AnyCall:
    _refuse_strict(use, strict)
    if use.mode == "required":
        raise UnsupportedParameter(
            "`tool_choice` that demands a call is not supported: this server does not read the "
            "calls of its model. Start it with --tool-format.",
            param="tool_choice",
        )
    return call
