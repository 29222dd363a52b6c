"""Structured answers over HTTP: a tiny model of random weights must say what it is told to."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from tests.http.random_weights import serving_random_weights
from tests.http.serving import Running
from tests.service.texts import CHAT


class Berth(BaseModel):
    """What the model is to say."""

    boat: Literal["yawl", "ketch"]
    length: Annotated[int, Field(ge=3, le=30)]
    names: Annotated[list[Annotated[str, Field(max_length=4)]], Field(max_length=2)]


SCHEMA = Berth.model_json_schema() | {"additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "berth", "schema": SCHEMA}}
MESSAGES: Any = [{"role": "user", "content": "x"}]
BODY = {"model": "demo", "messages": MESSAGES, "temperature": 1.0, "seed": 2}


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving_random_weights(tmp_path_factory.mktemp("random"), CHAT) as running:
        yield running


def test_the_openai_client_parses_an_answer_into_its_class(random_model: Running) -> None:
    answer = random_model.openai.chat.completions.parse(
        model="demo", messages=MESSAGES, response_format=Berth, temperature=1.0, seed=1
    )
    (choice,) = answer.choices
    assert isinstance(choice.message.parsed, Berth)
    assert choice.message.content is not None
    assert Berth.model_validate_json(choice.message.content) == choice.message.parsed
    assert (choice.finish_reason, choice.message.refusal) == ("stop", None)


def test_several_answers_each_keep_to_the_schema(random_model: Running) -> None:
    answer = random_model.post("/v1/chat/completions", BODY | {"response_format": FORMAT, "n": 3})
    assert answer.status_code == 200, answer.text
    choices = answer.json()["choices"]
    assert len({choice["message"]["content"] for choice in choices}) > 1
    for choice in choices:
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)


def test_a_streamed_answer_is_the_same(random_model: Running) -> None:
    whole = random_model.post("/v1/chat/completions", BODY | {"response_format": FORMAT}).json()
    with random_model.openai.chat.completions.stream(
        model="demo", messages=MESSAGES, response_format=Berth, temperature=1.0, seed=2
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == whole["choices"][0]["message"]["content"]
    assert isinstance(final.choices[0].message.parsed, Berth)


def test_completions_take_it_as_well(random_model: Running) -> None:
    body = {"model": "demo", "prompt": ["a", "b"], "response_format": FORMAT, "max_tokens": 200}
    choices = random_model.post("/v1/completions", body).json()["choices"]
    for choice in choices:
        jsonschema.validate(json.loads(choice["text"]), SCHEMA)
    assert [choice["finish_reason"] for choice in choices] == ["stop", "stop"]


def test_responses_take_the_schema_in_their_text_format(random_model: Running) -> None:
    client = random_model.openai
    answer = client.responses.parse(
        model="demo", input="x", text_format=Berth, temperature=1.0, store=False
    )
    assert isinstance(answer.output_parsed, Berth)
    assert Berth.model_validate_json(answer.output_text) == answer.output_parsed
    assert answer.status == "completed"
    with client.responses.stream(
        model="demo", input="x", text_format=Berth, temperature=1.0, store=False
    ) as stream:
        final = stream.get_final_response()
    assert isinstance(final.output_parsed, Berth)


@pytest.mark.parametrize(
    ("outputs", "texts"),
    [
        ({"choice": ["port", "starboard"]}, {"port", "starboard"}),
        ({"regex": "[01]{2}"}, {"00", "01", "10", "11"}),
        ({"grammar": 'start: "a" | "b"'}, {"a", "b"}),
        ({"json": {"enum": [1, "x"]}}, {"1", '"x"'}),
    ],
)
def test_what_vllm_takes_is_taken(
    random_model: Running, outputs: dict[str, Any], texts: set[str]
) -> None:
    chat = random_model.post("/v1/chat/completions", BODY | {"structured_outputs": outputs}).json()
    assert chat["choices"][0]["message"]["content"] in texts
    body = {"model": "demo", "prompt": "x", "structured_outputs": outputs}
    assert random_model.post("/v1/completions", body).json()["choices"][0]["text"] in texts


def test_a_limit_cuts_the_answer_and_says_so(random_model: Running) -> None:
    body = BODY | {"response_format": FORMAT, "max_tokens": 6}
    (choice,) = random_model.post("/v1/chat/completions", body).json()["choices"]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["content"]) == 6
    assert choice["message"]["content"].startswith("{")


def test_a_stop_string_still_ends_the_answer(random_model: Running) -> None:
    body = BODY | {"structured_outputs": {"regex": "abcdef"}, "stop": "d"}
    (choice,) = random_model.post("/v1/chat/completions", body).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("abc", "stop")


@pytest.mark.parametrize(
    ("fields", "param", "reason"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {
                "name": "a", "schema": {"type": "nothing"}}}},
            "response_format.json_schema.schema", "Invalid type: nothing",
        ),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex", "unclosed group"),
        (
            {"response_format": {"type": "json_object"}, "ignore_eos": True},
            "ignore_eos", "says where an answer ends",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_kept_to_is_refused_before_anything_is_said(
    random_model: Running, fields: dict[str, Any], param: str, reason: str, stream: bool
) -> None:
    answer = random_model.post("/v1/chat/completions", BODY | fields | {"stream": stream})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert reason in error["message"]


def test_an_engine_that_cannot_says_so(echo: Running) -> None:
    body = {"model": "demo", "messages": MESSAGES, "response_format": {"type": "json_object"}}
    answer = echo.post("/v1/chat/completions", body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "response_format")
    assert "The echo engine cannot keep answers" in answer.json()["error"]["message"]
