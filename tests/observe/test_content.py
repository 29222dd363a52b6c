from mooring.generation import Conversation, Instruction, Message, RawText, TokenIds, ToolCall
from mooring.observe.content import Content


def text(role: str, content: str) -> dict[str, object]:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def test_prompts_of_every_kind_are_messages() -> None:
    content = Content()
    content.ask([Instruction("a"), RawText("b"), TokenIds((1, 2))])
    assert content.inputs() == [text("user", "a"), text("user", "b"), text("user", "1 2")]


def test_calls_of_tools_and_their_results_are_parts() -> None:
    content = Content()
    call = ToolCall("c-1", "look", "{}")
    turns = (
        Message("user", "a"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "found", tool_call_id="c-1", name="look"),
    )
    content.ask([Conversation(turns)])
    asked, called, told = content.inputs()
    assert asked == text("user", "a")
    assert called["parts"][1:] == [
        {"type": "tool_call", "id": "c-1", "name": "look", "arguments": "{}"}
    ]
    assert told == {
        "role": "tool",
        "parts": [{"type": "tool_call_response", "id": "c-1", "response": "found"}],
    }


def test_answers_are_put_together_with_how_they_ended() -> None:
    content = Content()
    for index, piece in ((1, "c"), (0, "a"), (0, "b")):
        content.add(index, piece)
    assert content.outputs(["stop", "length"]) == [
        text("assistant", "ab") | {"finish_reason": "stop"},
        text("assistant", "c") | {"finish_reason": "length"},
    ]
