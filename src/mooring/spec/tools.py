"""What a chat template knows of tools: how it is given them, and how the model writes calls."""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from mooring.generation import Message, Tool

CallFormat = Literal["hermes", "llama3", "mistral"]

# Templates that put arguments into the prompt as they are want text, others an object.
_PRINTS_ARGUMENTS = re.compile(r"\barguments['\"]?\]?\s*(\+|~|-?\}\})")
_READS_ARGUMENTS = re.compile(
    r"\barguments['\"]?\]?\s*(\|\s*(tojson|items|dictsort)|is\s+(not\s+)?(string|mapping)|\.items)"
)


def call_format_of(template: str) -> CallFormat | None:
    """Return how the model of a chat template writes its calls, None where that cannot be told."""
    if "[TOOL_CALLS]" in template:
        return "mistral"
    if "<tool_call>" in template:
        # Some models write their calls as XML between the same tags.
        return None if "<function=" in template or "<arg_key>" in template else "hermes"
    if "<|python_tag|>" in template or '"parameters": dictionary of argument' in template:
        return "llama3"
    return None


def template_tools(tools: Sequence[Tool]) -> list[dict[str, Any]] | None:
    """Return tools as chat templates take them."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                **({} if tool.description is None else {"description": tool.description}),
                "parameters": tool.parameters,
            },
        }
        for tool in tools
    ] or None


def template_messages(messages: Sequence[Message], template: str | None) -> list[dict[str, Any]]:
    """Return messages as chat templates take them."""
    as_text = bool(
        template and _PRINTS_ARGUMENTS.search(template) and not _READS_ARGUMENTS.search(template)
    )
    return [_template_message(message, as_text=as_text) for message in messages]


def _template_message(message: Message, *, as_text: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        fields["name"] = message.name
    if message.thought is not None:
        fields["reasoning_content"] = message.thought
    if message.tool_calls:
        fields["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": call.arguments if as_text else json.loads(call.arguments),
                },
            }
            for call in message.tool_calls
        ]
    return fields
