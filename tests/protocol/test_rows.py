import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mooring.errors import InvalidPrompt
from mooring.generation import Conversation, Instruction, Message
from mooring.protocol.messages import MAX_MESSAGES, parse_messages
from mooring.protocol.rows import parse_rows, rows_of_columns

USER = {"role": "user", "content": "hi"}
TALK = Conversation((Message("user", "hi"),))


@pytest.mark.parametrize(
    "row",
    [
        "hi",
        np.str_("hi"),
        {"prompt": "hi"},
        {"prompt": "hi", "messages": None},
        {"prompt": "hi", "messages": float("nan")},
        {"prompt": "hi", "messages": np.nan},
        {"prompt": "hi", "messages": pd.NA},
        {"prompt": "hi", "messages": pd.NaT},
    ],
)
def test_a_prompt_is_an_instruction(row: object) -> None:
    (prompt,) = parse_rows([row])
    assert prompt == Instruction("hi")
    assert isinstance(prompt, Instruction)
    assert type(prompt.text) is str


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        (USER,),
        np.array([USER], dtype=object),
        json.dumps([USER]),
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}],
            }
        ],
        [{**USER, "name": None, "tool_calls": [], "refusal": None}],
    ],
)
def test_messages_are_a_conversation(messages: object) -> None:
    assert parse_rows([{"messages": messages}, {"messages": messages, "prompt": None}]) == [
        TALK,
        TALK,
    ]


def test_a_developer_speaks_as_system() -> None:
    talk = parse_messages(
        [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": ""},
            {"role": "assistant", "content": "ok"},
        ]
    )
    assert talk.messages == (
        Message("system", "be brief"),
        Message("user", ""),
        Message("assistant", "ok"),
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (5, "row 1: a row must be a string, or an object with `prompt` or `messages`. Given: int."),
        (None, "row 1: a row must be a string, or an object with `prompt` or `messages`. "
         "Given: null."),
        ({}, "row 1: exactly one of `prompt` and `messages` is needed. Given: none."),
        ({"prompt": None}, "row 1: exactly one of `prompt` and `messages` is needed. Given: none."),
        ({"prompt": "a", "messages": [USER]},
         "row 1: exactly one of `prompt` and `messages` is needed. Given: both."),
        ({"prompt": "a", "id": 7, "user": "x"},
         "row 1: columns must be `prompt` or `messages`. Given also: id, user. Leave these out."),
        ("", "row 1: `prompt` must not be empty."),
        ({"prompt": 5}, "row 1: `prompt` must be a string. Given: int."),
        ({"messages": "hello"}, "row 1: `messages` given as text must be a JSON list of objects "
         "with `role` and `content`."),
        ({"messages": "[" * 100_000}, "row 1: `messages` given as text must be a JSON list of "
         "objects with `role` and `content`."),
        ({"messages": {"role": "user"}}, "row 1: `messages` must be a list of objects with `role` "
         "and `content`. Given: dict."),
        ({"messages": []}, "row 1: `messages` must hold between 1 and 1024 messages. Given: 0."),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(row: object, message: str) -> None:
    with pytest.raises(InvalidPrompt) as error:
        parse_rows(["fine", row])
    assert error.value.message == message


@pytest.mark.parametrize(
    ("second", "param", "message"),
    [
        ("hi", "messages[1]", "must be an object with `role` and `content`. Given: str."),
        ({"content": "a"}, "messages[1].role",
         "must be one of: system, developer, user, assistant, tool. Given: None."),
        ({"role": "function", "content": "a"}, "messages[1].role",
         "must be one of: system, developer, user, assistant, tool. Given: 'function'."),
        ({"role": ["user"], "content": "a"}, "messages[1].role",
         "must be one of: system, developer, user, assistant, tool. Given: ['user']."),
        ({"role": "user"}, "messages[1].content",
         "must be a string or a list of text parts. Given: null."),
        ({"role": "user", "content": []}, "messages[1].content",
         "must be a string or a list of text parts. Given: an empty list."),
        ({"role": "user", "content": 5}, "messages[1].content",
         "must be a string or a list of text parts. Given: int."),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]},
         "messages[1].content[0]",
         'must be a part of type "text": this model reads text only. Given: \'image_url\'.'),
        ({"role": "user", "content": ["hi"]}, "messages[1].content[0]",
         'must be a part of type "text": this model reads text only. Given: str.'),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text",
         "must be a string. Given: null."),
        ({"role": "user", "content": [{"type": "text", "text": "a", "bold": True}]},
         "messages[1].content[0].bold", "is not supported. Leave it out."),
        ({"role": "user", "content": "a", "mood": "eve"}, "messages[1].mood",
         "is not supported. Leave it out."),
        ({"role": "user", "content": "a", "tool_calls": [{"id": "1"}]},
         "messages[1].tool_calls", "is not supported. Leave it out."),
    ],
)  # fmt: skip
def test_a_bad_message_is_named_by_its_path(second: object, param: str, message: str) -> None:
    with pytest.raises(InvalidPrompt) as error:
        parse_messages([USER, second])
    assert error.value.message == f"`{param}` {message}"
    assert error.value.param == param


def test_there_is_a_limit_of_messages() -> None:
    assert len(parse_messages([USER] * MAX_MESSAGES).messages) == 1024
    with pytest.raises(InvalidPrompt, match=r"between 1 and 1024 messages\. Given: 1025"):
        parse_messages([USER] * 1025)


def test_what_is_wrong_is_shown_but_not_at_length() -> None:
    with pytest.raises(InvalidPrompt) as error:
        parse_messages([{"role": "x" * 5000, "content": "a", "y" * 5000: None}])
    assert len(error.value.message) < 200


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ({"prompt": ["a", "b"]}, [{"prompt": "a"}, {"prompt": "b"}]),
        ({"prompt": "a"}, [{"prompt": "a"}]),
        ({"messages": [USER]}, [{"messages": [USER]}]),
        ({"messages": [[USER], [USER]]}, [{"messages": [USER]}, {"messages": [USER]}]),
        ({"prompt": ["a", None], "messages": [None, [USER]]},
         [{"prompt": "a", "messages": None}, {"prompt": None, "messages": [USER]}]),
        ({"prompt": []}, []),
    ],
)  # fmt: skip
def test_columns_are_spread_over_rows(columns: dict[str, Any], rows: list[object]) -> None:
    assert rows_of_columns(columns) == rows


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(InvalidPrompt, match="Given: prompt has 2, messages has 1"):
        rows_of_columns({"prompt": ["a", "b"], "messages": [[USER]]})
