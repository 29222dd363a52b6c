"""Calls that are demanded, or strict: a tiny model of random weights makes valid ones."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tokenizers.pre_tokenizers import ByteLevel

from tests.http.random_weights import serving_random_weights
from tests.http.serving import Running
from tests.http.test_tools import MARKS, saying
from tests.models import FIRST_BYTE

PARAMETERS = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 4},
            "days": {"type": "integer", "minimum": 1, "maximum": 3},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    },
    "stop": {
        "type": "object",
        "properties": {"now": {"type": "boolean"}},
        "required": ["now"],
        "additionalProperties": False,
    },
}
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": parameters}}
    for name, parameters in PARAMETERS.items()
]
BODY: Any = {
    "model": "demo", "messages": [{"role": "user", "content": "x"}], "tools": TOOLS,
    "temperature": 1.0, "parallel_tool_calls": False,
}  # fmt: skip


@pytest.fixture(scope="module", params=sorted(MARKS))
def random_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    prompt_format = saying(MARKS[request.param])
    with serving_random_weights(tmp_path_factory.mktemp("random"), prompt_format) as running:
        yield running


@pytest.mark.parametrize("seed", range(4))
def test_a_demanded_call_is_valid(random_model: Running, seed: int) -> None:
    answer = random_model.openai.chat.completions.create(**BODY, tool_choice="required", seed=seed)
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    jsonschema.validate(json.loads(call.function.arguments), PARAMETERS[call.function.name])


def test_a_named_tool_is_the_one_that_is_called(random_model: Running) -> None:
    choice: Any = {"type": "function", "function": {"name": "stop"}}
    with random_model.openai.chat.completions.stream(**BODY, tool_choice=choice, seed=1) as stream:
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    (call,) = calls
    assert call.function.name == "stop"
    assert json.loads(call.function.arguments) in ({"now": True}, {"now": False})


@pytest.mark.parametrize("missing", [3, 8, 15])
def test_a_demanded_call_that_is_cut_off_is_a_call(random_model: Running, missing: int) -> None:
    choice: Any = {"type": "function", "function": {"name": "stop"}}
    asked = BODY | {"tool_choice": choice, "seed": 1}
    usage = random_model.openai.chat.completions.create(**asked).usage
    assert usage is not None
    asked |= {"max_tokens": usage.completion_tokens - missing}
    (cut,) = random_model.openai.chat.completions.create(**asked).choices
    assert cut.finish_reason == "length"
    streamed = "".join(
        call.function.arguments or ""
        for chunk in random_model.openai.chat.completions.create(**asked, stream=True)
        for call in chunk.choices[0].delta.tool_calls or []
        if call.function is not None
    )
    calls = cut.message.tool_calls or []
    said = [call.function.arguments for call in calls if call.type == "function"]
    assert said == ([streamed] if streamed else [])


def test_a_schema_that_cannot_be_used_is_refused_with_the_reason_alone(
    random_model: Running,
) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "banana"}}}
    answer = random_model.post(
        "/v1/chat/completions", BODY | {"tools": [tool], "tool_choice": "required"}
    )
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert "Invalid type: banana. Correct" in message
    assert "arguments_0" not in message


def test_responses_demand_calls_too(random_model: Running) -> None:
    tools: Any = [
        {"type": "function", "name": name, "parameters": parameters, "strict": True}
        for name, parameters in PARAMETERS.items()
    ]
    answer = random_model.openai.responses.create(
        model="demo", input="x", tools=tools, tool_choice="required", store=False,
        parallel_tool_calls=False, temperature=1.0,
    )  # fmt: skip
    (call,) = answer.output
    assert call.type == "function_call"
    jsonschema.validate(json.loads(call.arguments), PARAMETERS[call.name])


def test_a_strict_function_is_called_by_its_schema_where_the_model_may_choose(
    tmp_path: Path,
) -> None:
    tools: Any = [{"type": "function", "function": t["function"] | {"strict": True}} for t in TOOLS]
    brace = str(FIRST_BYTE + sorted(ByteLevel.alphabet()).index("{"))
    asked: Any = BODY | {"tools": tools, "tool_choice": "auto", "max_tokens": 120}
    with serving_random_weights(tmp_path, saying(MARKS["llama3"])) as running:
        for seed in range(3):
            create = running.openai.chat.completions.create
            called = create(**asked, seed=seed, logit_bias={brace: 100}).choices[0]
            assert called.finish_reason == "tool_calls"
            assert called.message.tool_calls is not None
            (call,) = called.message.tool_calls
            assert call.type == "function"
            arguments = json.loads(call.function.arguments)
            jsonschema.validate(arguments, PARAMETERS[call.function.name])
            said = create(**asked, seed=seed, logit_bias={brace: -100}).choices[0].message
            assert said.tool_calls is None
            assert said.content
        both = asked | {"response_format": {"type": "json_object"}}
        response = running.post("/v1/chat/completions", both)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "tools[0].function.strict"
