"""Messages that belong to calls of tools; the others are in test_rows.py."""

from typing import Any

import pytest

from mooring.errors import InvalidPrompt
from mooring.generation import Message, ToolCall
from mooring.protocol.messages import parse_messages

USER = {"role": "user", "content": "Weather?"}


def call(id: Any = "call_1", name: str = "get_weather", arguments: Any = '{"a": 1}') -> Any:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **fields}


def result(id: str = "call_1", content: Any = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content}


def test_calls_and_their_results_are_linked() -> None:
    parts = [{"type": "text", "text": "sun"}, {"type": "text", "text": "ny"}]
    conversation = parse_messages(
        [
            USER,
            calling(call(), call("b", "now", "")),
            {**result("b", "12:00"), "name": "now"},
            result(content=parts),
        ]
    )
    assert conversation.messages == (
        Message("user", "Weather?"),
        Message(
            "assistant",
            "",
            (ToolCall("call_1", "get_weather", '{"a": 1}'), ToolCall("b", "now", "{}")),
        ),
        Message("tool", "12:00", tool_call_id="b", name="now"),
        Message("tool", "sunny", tool_call_id="call_1", name="get_weather"),
    )


def test_an_answer_of_ours_with_text_and_calls_is_taken_back() -> None:
    answer = calling(call(), content="Let me see.", refusal=None, annotations=[], audio=None)
    message = parse_messages([USER, answer]).messages[1]
    assert (message.content, message.tool_calls[0].name) == ("Let me see.", "get_weather")


@pytest.mark.parametrize(
    ("messages", "param", "message"),
    [
        ([result()], "messages[0].tool_call_id",
         "must be the id of a tool call that came before. Given: 'call_1'."),
        ([result(), calling(call())], "messages[0].tool_call_id",
         "must be the id of a tool call that came before. Given: 'call_1'."),
        ([USER, calling(call()), result("call_2")], "messages[2].tool_call_id",
         "must be the id of a tool call that came before. Given: 'call_2'."),
        ([USER, {"role": "tool", "content": "a"}], "messages[1].tool_call_id",
         "must be a string that is not empty. Given: null."),
        ([USER, calling(call()), result(content=None)], "messages[2].content",
         "must be a string or a list of text parts. Given: null."),
        ([USER, calling(call(arguments={"a": 1}))],
         "messages[1].tool_calls[0].function.arguments", "must be a string of JSON. Given: dict."),
        ([USER, calling(call(), call("b", arguments="[1]"))],
         "messages[1].tool_calls[1].function.arguments",
         "must be the text of a JSON object. Given: '[1]'."),
        ([USER, calling(call(name=""))], "messages[1].tool_calls[0].function.name",
         "must be a string that is not empty. Given: str."),
        ([USER, calling(call(id=7))], "messages[1].tool_calls[0].id",
         "must be a string that is not empty. Given: int."),
        ([USER, calling(call(), call())], "messages[1].tool_calls[1].id",
         "must differ from those before. Given: 'call_1'."),
        ([USER, calling({**call(), "type": "custom"})], "messages[1].tool_calls[0].type",
         "must be \"function\". Given: 'custom'."),
        ([USER, calling({"id": "a", "type": "function"})], "messages[1].tool_calls[0].function",
         "must be an object with `name` and `arguments`. Given: null."),
        ([USER, calling("f")], "messages[1].tool_calls[0]",
         "must be an object with `id`, `type` and `function`. Given: str."),
        ([USER, calling({**call(), "index": 0})], "messages[1].tool_calls[0].index",
         "is not supported. Leave it out."),
        ([USER, {**calling(), "tool_calls": "f"}], "messages[1].tool_calls",
         "must be a list of at most 128 calls. Given: 1."),
        ([USER, calling()], "messages[1].content",
         "must be a string or a list of text parts. Given: null."),
        ([USER, calling(call()), {**result(), "name": "f"}], "messages[2].name",
         "must be that of the function called: 'get_weather'. Given: 'f'. Leave it out."),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused_by_place(
    messages: Any, param: str, message: str
) -> None:
    with pytest.raises(InvalidPrompt) as error:
        parse_messages(messages)
    assert (error.value.param, error.value.message) == (param, f"`{param}` {message}")
