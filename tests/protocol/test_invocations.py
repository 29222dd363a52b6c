import json
from typing import Any

import pytest

from mooring.errors import InvalidInput, InvalidJson, InvalidParameter
from mooring.generation import Conversation, Instruction, Message
from mooring.protocol.invocations import (
    InvocationCall,
    invocation_error,
    parse_csv,
    parse_invocation,
)

USER = {"role": "user", "content": "hi"}
A, B = Instruction("a"), Instruction("b")
TALK = Conversation((Message("user", "hi"),))


def parse(**fields: Any) -> InvocationCall:
    return parse_invocation(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("fields", "prompts"),
    [
        ({"inputs": ["a", "b"]}, (A, B)),
        ({"inputs": "a"}, (A,)),
        ({"inputs": {"prompt": ["a", "b"]}}, (A, B)),
        ({"inputs": {"prompt": "a"}}, (A,)),
        ({"inputs": [{"prompt": "a"}, {"messages": [USER]}]}, (A, TALK)),
        ({"inputs": {"messages": [USER]}}, (TALK,)),
        ({"inputs": {"messages": [[USER], [USER]]}}, (TALK, TALK)),
        ({"inputs": []}, ()),
        ({"instances": ["a", "b"]}, (A, B)),
        ({"instances": [{"prompt": "a"}, {"prompt": "b"}]}, (A, B)),
        ({"dataframe_records": [{"prompt": "a"}, {"prompt": "b"}]}, (A, B)),
        ({"dataframe_split": {"columns": ["prompt"], "data": [["a"], ["b"]]}}, (A, B)),
        ({"dataframe_split": {"index": [5, 6], "columns": ["prompt", "messages"],
                              "data": [["a", None], [None, [USER]]]}}, (A, TALK)),
    ],
)  # fmt: skip
def test_every_form_of_table_is_taken(fields: dict[str, Any], prompts: Any) -> None:
    call = parse(**fields)
    assert call.prompts == prompts
    assert call.answer(["x"]) == {"predictions": {"candidates": ["x"]}}


def test_a_cell_that_is_not_a_number_is_missing() -> None:
    body = b'{"dataframe_split": {"columns": ["prompt", "messages"], "data": [["a", NaN]]}}'
    assert parse_invocation(body).prompts == (A,)


@pytest.mark.parametrize(
    ("fields", "prompts"),
    [
        ({"prompt": "a"}, (A,)),
        ({"prompt": ["a", "b"]}, (A, B)),
        ({"messages": [USER]}, (TALK,)),
        ({"prompt": "a", "stream": False}, (A,)),
    ],
)
def test_the_unified_form_is_answered_unwrapped(fields: dict[str, Any], prompts: Any) -> None:
    call = parse(**fields)
    assert call.prompts == prompts
    assert call.answer(["x"]) == {"candidates": ["x"]}


def test_parameters_stand_where_each_form_has_them() -> None:
    values = {"temperature": 0.5, "max_tokens": 3}
    assert parse(inputs="a", params={**values, "seed": None}).parameters == values
    assert parse(prompt="a", **values, seed=None).parameters == values
    assert parse(inputs="a", params=None).parameters == {}
    assert parse(inputs="a", params={"temprature": 1}).parameters == {"temprature": 1}


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({}, None, "The body must have exactly one of: dataframe_split, dataframe_records, "
         "instances, inputs, prompt, messages. Given: none."),
        ({"inputs": ["a"], "instances": ["b"]}, None, "The body must have exactly one of: "
         "dataframe_split, dataframe_records, instances, inputs, prompt, messages. "
         "Given: inputs, instances."),
        ({"input": "a"}, None, "The body must have exactly one of: dataframe_split, "
         "dataframe_records, instances, inputs, prompt, messages. Given: input."),
        ({"inputs": "a", "temperature": 1}, "temperature",
         "Unknown field `temperature`. Leave it out."),
        ({"inputs": "a", "prompt": "b"}, "prompt", "Unknown field `prompt`. Leave it out."),
        ({"inputs": "a", "params": [1]}, "params", "`params` must be an object. Given: list."),
        ({"prompt": "a", "params": {}}, "params", "Beside `prompt` or `messages`, parameters stand "
         "at the top level, without `params`."),
        ({"prompt": "a", "model": "x"}, "model", "Unknown field `model`. Leave it out."),
        ({"prompt": "a", "messages": [USER]}, None,
         "row 0: exactly one of `prompt` and `messages` is needed. Given: both."),
        ({"inputs": 5}, None, "`inputs` must be a string, a list of rows or an object of columns. "
         "Given: int."),
        ({"inputs": ["a", None]}, None, "row 1: a row must be a string, or an object with `prompt` "
         "or `messages`. Given: null."),
        ({"inputs": {"prompt": ["a"], "id": [1]}}, None, "row 0: columns must be `prompt` or "
         "`messages`. Given also: id. Leave these out."),
        ({"dataframe_records": ["a"]}, None,
         "`dataframe_records` must be a list of objects, one per row."),
        ({"dataframe_split": [["a"]]}, None,
         "`dataframe_split` must be an object with `columns` and `data`."),
        ({"dataframe_split": {"columns": ["prompt"], "data": [["a"]], "names": []}},
         "dataframe_split.names", "Unknown field `dataframe_split.names`. Leave it out."),
        ({"dataframe_split": {"data": [["a"]]}}, None,
         "`dataframe_split.columns` must be a list of column names."),
        ({"dataframe_split": {"columns": ["prompt"], "data": ["a"]}}, None,
         "`dataframe_split.data` must be a list of lists, one per row."),
        ({"dataframe_split": {"columns": ["prompt"], "data": [["a"], ["b", 1]]}}, None,
         "row 1: one cell per column is needed: 1. Given: 2."),
        ({"dataframe_split": {"columns": ["prompt", "prompt"], "data": [["a", "b"]]}}, None,
         "Column names must differ. Given: prompt, prompt."),
    ],
)  # fmt: skip
def test_bad_bodies_are_refused(fields: dict[str, Any], param: str | None, message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(**fields)
    assert (error.value.param, error.value.message) == (param, message)


def test_one_answer_may_be_streamed() -> None:
    assert [parse(prompt="a", stream=s).stream for s in (None, False, True)] == [False, False, True]
    call = parse(inputs=["a"], stream=True, params={"max_tokens": 3})
    assert (call.stream, call.parameters) == (True, {"max_tokens": 3, "n": 1})
    with pytest.raises(InvalidParameter, match="one row with `n` = 1") as error:
        parse(inputs=["a", "b"], stream=True)
    assert error.value.param == "stream"
    assert parse(inputs="a", params={"stream": True}).parameters == {"stream": True}


def test_what_is_not_a_json_object_is_refused() -> None:
    for body in (b"", b"[1]", b'{"inputs"'):
        with pytest.raises(InvalidJson):
            parse_invocation(body)


def test_csv_has_a_header_and_rows() -> None:
    body = 'prompt\r\na\r\n"b, with ""quotes""\nand é"\r\n'.encode()
    call = parse_csv(body)
    assert call.prompts == (A, Instruction('b, with "quotes"\nand é'))
    assert call.answer(["x", "y"]) == {"predictions": {"candidates": ["x", "y"]}}


def test_csv_cells_may_be_missing_or_hold_messages() -> None:
    messages = json.dumps([USER]).replace('"', '""')
    assert parse_csv(f'prompt,messages\na,\n,"{messages}"\n'.encode()).prompts == (A, TALK)
    assert parse_csv("\ufeffprompt\na\n\nb\n".encode()).prompts == (A, B)
    assert parse_csv(b"prompt\n").prompts == ()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "CSV must begin with a header: `prompt` or `messages`. Given: nothing."),
        (b"\xff\n", "CSV must be UTF-8."),
        (b'prompt\n"a', "The body must be valid CSV: unexpected end of data."),
        (b"prompt\na,b\n", "row 0: one cell per column is needed: 1. Given: 2."),
        (b"question\na\n", "row 0: columns must be `prompt` or `messages`. Given also: question. "
         "Leave these out."),
    ],
)  # fmt: skip
def test_bad_csv_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse_csv(body)
    assert error.value.message == message


def test_errors_have_mlflows_form() -> None:
    assert invocation_error("no", "BAD_REQUEST") == {"error_code": "BAD_REQUEST", "message": "no"}


def test_unknown_parameters_are_left_to_the_sampling_table() -> None:
    with pytest.raises(InvalidParameter, match="Unknown field `temprature`"):
        parse(prompt="a", temprature=1)
