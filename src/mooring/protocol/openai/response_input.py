"""The input of `/v1/responses`: a string, or a list of messages, calls and their results."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mooring.generation import Conversation, Message, ToolCall
from mooring.protocol.messages import (
    MAX_MESSAGES,
    ROLES,
    Place,
    check_arguments,
    check_text,
)
from mooring.protocol.values import kind_of, shown

# What our own answers say of their items, and clients send back.
_NOTES = ("id", "status")
_TEXT_PARTS = ("input_text", "output_text", "text")
_THOUGHT_PARTS = ("reasoning_text",)


def parse_input(value: Any, instructions: str | None) -> Conversation:
    """Return the conversation of `input`; `instructions` are put in front as a system message."""
    place = Place("input")
    before = [] if instructions is None else [Message("system", instructions)]
    if isinstance(value, str):
        return Conversation((*before, Message("user", check_text(value, place))))
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        given = len(value) if isinstance(value, list) else kind_of(value)
        raise place.refused(
            f"must be a string or a list of 1 to {MAX_MESSAGES} items. Given: {given}."
        )
    messages: list[Message] = []
    for index, item in enumerate(value):
        _add(messages, item, place[index])
    return Conversation((*before, *messages))


def _add(messages: list[Message], item: Any, place: Place) -> None:
    if not isinstance(item, Mapping):
        raise place.refused(f"must be an object. Given: {kind_of(item)}.")
    match item.get("type", "message"):
        case "message":
            _add_message(messages, _message(item, place))
        case "reasoning":
            _add_thought(messages, item, place)
        case "function_call":
            _add_call(messages, item, place)
        case "function_call_output":
            messages.append(_result(messages, item, place))
        case kind:
            raise (place / "type").refused(
                'must be "message", "reasoning", "function_call" or "function_call_output". '
                f"Given: {shown(kind)}."
            )


def _add_message(messages: list[Message], message: Message) -> None:
    """Add a message; what the model said goes with what it thought before."""
    if message.role == "assistant" and messages and _is_thought(messages[-1]):
        messages[-1] = replace(message, thought=messages[-1].thought)
    else:
        messages.append(message)


def _is_thought(message: Message) -> bool:
    return bool(message.thought) and not (message.content or message.tool_calls)


def _add_thought(messages: list[Message], item: Mapping[str, Any], place: Place) -> None:
    _refuse_others(item, ("type", "content", "summary", *_NOTES), place)
    if item.get("content"):
        thought = _text(item["content"], place / "content", _THOUGHT_PARTS)
        messages.append(Message("assistant", "", thought=thought or None))


def _message(item: Mapping[str, Any], place: Place) -> Message:
    _refuse_others(item, ("type", "role", "content", "phase", *_NOTES), place)
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES or role == "tool":
        known = ", ".join(name for name in ROLES if name != "tool")
        raise (place / "role").refused(f"must be one of: {known}. Given: {shown(role)}.")
    return Message(ROLES[role], _text(item.get("content"), place / "content"))


def _add_call(messages: list[Message], item: Mapping[str, Any], place: Place) -> None:
    """Add a call to the model's turn that it belongs to."""
    _refuse_others(item, ("type", "call_id", "name", "arguments", *_NOTES), place)
    call = ToolCall(
        check_text(item.get("call_id"), place / "call_id"),
        check_text(item.get("name"), place / "name"),
        check_arguments(item.get("arguments"), place / "arguments"),
    )
    if call.id in {other.id for message in messages for other in message.tool_calls}:
        raise (place / "call_id").refused(f"must differ from those before. Given: {call.id[:40]}.")
    if messages and messages[-1].role == "assistant":
        messages[-1] = replace(messages[-1], tool_calls=(*messages[-1].tool_calls, call))
    else:
        messages.append(Message("assistant", "", (call,)))


def _result(messages: Sequence[Message], item: Mapping[str, Any], place: Place) -> Message:
    _refuse_others(item, ("type", "call_id", "output", *_NOTES), place)
    call_id = check_text(item.get("call_id"), place / "call_id")
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    if call_id not in names:
        raise (place / "call_id").refused(
            f"must be the id of a function call that came before. Given: {shown(call_id)}."
        )
    text = _text(item.get("output"), place / "output")
    return Message("tool", text, tool_call_id=call_id, name=names[call_id])


def _text(value: Any, place: Place, kinds: Sequence[str] = _TEXT_PARTS) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise place.refused(f"must be a string or a list of text parts. Given: {kind_of(value)}.")
    return "".join(_part(part, place[index], kinds) for index, part in enumerate(value))


def _part(part: Any, place: Place, kinds: Sequence[str]) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or kind not in kinds:
        known = " or ".join(f'"{name}"' for name in kinds if name != "text")
        raise place.refused(
            f"must be a part of type {known}: this model reads text only. "
            f"Given: {shown(kind) if kind is not None else kind_of(part)}."
        )
    _refuse_others(part, ("type", "text", "prompt_cache_breakpoint"), place)
    text = part.get("text")
    if not isinstance(text, str):
        raise (place / "text").refused(f"must be a string. Given: {kind_of(text)}.")
    return text


def _refuse_others(given: Mapping[str, Any], known: Sequence[str], place: Place) -> None:
    """Refuse other fields that say something; clients send back our own answers' empty ones."""
    for name, value in given.items():
        if name not in known and value not in (None, [], {}):
            raise (place / str(name)).refused("is not supported. Leave it out.")
