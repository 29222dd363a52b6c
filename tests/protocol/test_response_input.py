import pytest

from mooring.errors import InvalidPrompt
from mooring.generation import Conversation, Message, ToolCall
from mooring.protocol.openai.response_input import parse_input

CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


def test_a_string_is_what_the_user_says() -> None:
    assert parse_input("hi", None) == Conversation((Message("user", "hi"),))
    assert parse_input("hi", "Help.").messages[0] == Message("system", "Help.")


def test_calls_that_follow_each_other_are_one_turn() -> None:
    items = [{"role": "user", "content": "u"}, CALL, {**CALL, "call_id": "d"}]
    assert parse_input(items, None).messages[1:] == (
        Message("assistant", "", (ToolCall("c", "f", "{}"), ToolCall("d", "f", "{}"))),
    )


def test_an_id_names_one_call() -> None:
    with pytest.raises(InvalidPrompt, match="must differ from those before") as error:
        parse_input([CALL, CALL], None)
    assert error.value.param == "input[1].call_id"
