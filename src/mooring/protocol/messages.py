"""The messages of a conversation, checked one by one; errors name the place: `messages[2].role`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mooring.errors import InvalidParameter, InvalidPrompt
from mooring.generation import Conversation, Message, TemplateOptions, ToolCall
from mooring.protocol.values import is_missing, kind_of, plain, shown

MAX_MESSAGES = 1024
MAX_TOOL_CALLS = 128

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
"""The roles that clients write, and what models know them as."""

# What models thought, as vLLM names it and as others do.
_THOUGHTS = ("reasoning", "reasoning_content")
_FIELDS = {"assistant": ("name", "tool_calls", *_THOUGHTS), "tool": ("name", "tool_call_id")}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a body something stands; `row` is put in front of each error."""

    path: str
    row: str = ""

    def __truediv__(self, name: str) -> "Place":
        """Return the place of the field `name` of what stands here."""
        return replace(self, path=f"{self.path}.{name[:40]}")

    def __getitem__(self, index: int) -> "Place":
        """Return the place of one item of the list that stands here."""
        return replace(self, path=f"{self.path}[{index}]")

    def refused(self, reason: str) -> InvalidPrompt:
        """Return the error that says what is wrong here."""
        return InvalidPrompt(f"{self.row}`{self.path}` {reason}", param=self.path)


def parse_messages(value: object, where: str = "") -> Conversation:
    """Check a list of messages; `where` is put in front of each error."""
    place = Place("messages", where)
    if isinstance(value, str):
        value = _from_json_text(value, place)
    value = plain(value)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise place.refused(
            f"must be a list of objects with `role` and `content`. Given: {kind_of(value)}."
        )
    if not 1 <= len(value) <= MAX_MESSAGES:
        raise place.refused(
            f"must hold between 1 and {MAX_MESSAGES} messages. Given: {len(value)}."
        )
    messages = [_parse_message(plain(message), place[i]) for i, message in enumerate(value)]
    return Conversation(linked(messages, place))


def template_options(
    answers: bool | None, continues: bool | None, values: Mapping[str, Any] | None
) -> TemplateOptions:
    """Return how messages are to be rendered; a prompt that goes on with the last is no new turn.

    Raises `InvalidParameter` where both are asked for.
    """
    if answers and continues:
        raise InvalidParameter(
            "`add_generation_prompt` and `continue_final_message` must not both be true. "
            "Send one of them.",
            param="continue_final_message",
        )
    return TemplateOptions(answers is not False and not continues, bool(continues), values or {})


def linked(messages: Sequence[Message], place: Place) -> tuple[Message, ...]:
    """Give each result of a call the name of its function; refuse one that answers no call.

    Many clients send that name with the result; another one is refused.
    """
    names: dict[str, str] = {}
    result = []
    for index, message in enumerate(messages):
        names.update((call.id, call.name) for call in message.tool_calls)
        if message.tool_call_id is not None:
            name = names.get(message.tool_call_id)
            if name is None:
                raise (place[index] / "tool_call_id").refused(
                    "must be the id of a tool call that came before. "
                    f"Given: {shown(message.tool_call_id)}."
                )
            if message.name not in (None, name):
                raise (place[index] / "name").refused(
                    f"must be that of the function called: {shown(name)}. "
                    f"Given: {shown(message.name)}. Leave it out."
                )
            message = replace(message, name=name)
        result.append(message)
    return tuple(result)


def check_arguments(value: object, place: Place) -> str:
    """Return the arguments of a call that a client sends back: the text of a JSON object."""
    if not isinstance(value, str):
        raise place.refused(f"must be a string of JSON. Given: {kind_of(value)}.")
    try:
        read = json.loads(value or "{}")
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise place.refused(f"must be the text of a JSON object. Given: {shown(value)}.")
    return value or "{}"


def check_text(value: object, place: Place) -> str:
    """Return a string that is not empty."""
    if not isinstance(value, str) or not value:
        raise place.refused(f"must be a string that is not empty. Given: {kind_of(value)}.")
    return str(value)


def _parse_message(message: object, place: Place) -> Message:
    if not isinstance(message, Mapping):
        raise place.refused(
            f"must be an object with `role` and `content`. Given: {kind_of(message)}."
        )
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise (place / "role").refused(f"must be one of: {', '.join(ROLES)}. Given: {shown(role)}.")
    _refuse_others(message, ("role", "content", *_FIELDS.get(role, ("name",))), place)
    calls = _parse_calls(message.get("tool_calls"), place / "tool_calls")
    thought = _parse_thought(message, place) if role == "assistant" else None
    content = message.get("content")
    if (calls or thought) and is_missing(content):
        content = ""
    text = _parse_content(content, place / "content")
    name = message.get("name")
    named = None if is_missing(name) else check_text(name, place / "name")
    if role != "tool":
        return Message(ROLES[role], text, calls, name=named, thought=thought)
    answered = check_text(message.get("tool_call_id"), place / "tool_call_id")
    return Message(role, text, tool_call_id=answered, name=named)


def _parse_thought(message: Mapping[Any, Any], place: Place) -> str | None:
    """Return what a model thought, for which there are two names."""
    thoughts = [
        check_text(message[name], place / name)
        for name in _THOUGHTS
        if not is_missing(message.get(name))
    ]
    if len(set(thoughts)) > 1:
        raise (place / _THOUGHTS[1]).refused(f"must be the same as `{_THOUGHTS[0]}`. Send one.")
    return thoughts[0] if thoughts else None


def _parse_content(content: object, place: Place) -> str:
    content = plain(content)
    if isinstance(content, str):
        return str(content)
    if not isinstance(content, Sequence) or not content:
        raise place.refused(f"must be a string or a list of text parts. Given: {kind_of(content)}.")
    return "".join(_parse_part(plain(part), place[i]) for i, part in enumerate(content))


def _parse_part(part: object, place: Place) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or kind != "text":
        raise place.refused(
            'must be a part of type "text": this model reads text only. '
            f"Given: {shown(kind) if kind is not None else kind_of(part)}."
        )
    _refuse_others(part, ("type", "text", "prompt_cache_breakpoint"), place)
    text = part.get("text")
    if not isinstance(text, str):
        raise (place / "text").refused(f"must be a string. Given: {kind_of(text)}.")
    return str(text)


def _parse_calls(value: object, place: Place) -> tuple[ToolCall, ...]:
    value = plain(value)
    if is_missing(value) or value == []:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > MAX_TOOL_CALLS:
        given = len(value) if isinstance(value, Sequence) else kind_of(value)
        raise place.refused(f"must be a list of at most {MAX_TOOL_CALLS} calls. Given: {given}.")
    calls = tuple(_parse_call(plain(call), place[i]) for i, call in enumerate(value))
    for index, call in enumerate(calls):
        if call.id in {other.id for other in calls[:index]}:
            raise (place[index] / "id").refused(
                f"must differ from those before. Given: {shown(call.id)}."
            )
    return calls


def _parse_call(call: object, place: Place) -> ToolCall:
    if not isinstance(call, Mapping):
        raise place.refused(
            f"must be an object with `id`, `type` and `function`. Given: {kind_of(call)}."
        )
    _refuse_others(call, ("id", "type", "function"), place)
    kind = call.get("type")
    if kind != "function":
        given = shown(kind) if kind is not None else "null"
        raise (place / "type").refused(f'must be "function". Given: {given}.')
    function = call.get("function")
    if not isinstance(function, Mapping):
        raise (place / "function").refused(
            f"must be an object with `name` and `arguments`. Given: {kind_of(function)}."
        )
    inside = place / "function"
    _refuse_others(function, ("name", "arguments"), inside)
    return ToolCall(
        check_text(call.get("id"), place / "id"),
        check_text(function.get("name"), inside / "name"),
        check_arguments(function.get("arguments"), inside / "arguments"),
    )


def _refuse_others(given: Mapping[Any, Any], known: Sequence[str], place: Place) -> None:
    """Refuse other fields that say something; clients send back our own answers' empty ones."""
    for name, value in given.items():
        if name not in known and not is_missing(value) and value != []:
            raise (place / str(name)).refused("is not supported. Leave it out.")


def _from_json_text(text: str, place: Place) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise place.refused(
            "given as text must be a JSON list of objects with `role` and `content`."
        ) from None
