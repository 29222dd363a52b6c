"""The Responses API through HTTP: the echo engine says whatever the last message holds."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.responses import Response, ResponseFunctionToolCall

from mooring.engines.echo import EchoSettings
from mooring.spec.prompt import PromptFormat
from tests.http.serving import Running, running_server
from tests.http.test_tools import ARGUMENTS, CALLS, saying

TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
CALL = CALLS["hermes"]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running_server(prompt_format=saying("<tool_call>"), temperature=0.5) as running:
        yield running


def ask(input: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "demo", "input": input, **fields}


def events(running: Running, body: dict[str, Any]) -> list[dict[str, Any]]:
    response = running.post("/v1/responses", {**body, "stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *parts, rest = response.text.split("\n\n")
    assert rest == ""
    found = []
    for number, part in enumerate(parts):
        name, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == number
        found.append(event)
    return found


def test_text_is_answered_with_text(server: Running) -> None:
    answer = server.openai.responses.create(**ask("Hi é", metadata={"a": "b"}, top_p=0.9))
    assert (answer.output_text, answer.status, answer.error) == ("Hi é", "completed", None)
    assert (answer.temperature, answer.top_p, answer.metadata) == (0.5, 0.9, {"a": "b"})
    assert (answer.tools, answer.tool_choice, answer.parallel_tool_calls) == ([], "auto", True)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 5)
    assert answer.usage.total_tokens == 10
    assert answer.usage.input_tokens_details.cached_tokens == 0
    assert answer.id.startswith("resp_")
    assert answer.to_dict()["store"] is False


def test_a_call_is_an_item_of_its_own(server: Running) -> None:
    answer = server.openai.responses.create(**ask("So. " + CALL, tools=[TOOL]))
    message, call = answer.output
    assert answer.output_text == "So. "
    assert message.type == "message"
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, call.arguments, call.status) == ("get_weather", ARGUMENTS, "completed")
    assert answer.tool_choice == "auto"
    assert answer.tools[0].to_dict() == TOOL


def test_the_client_accumulates_a_stream(server: Running) -> None:
    with server.openai.responses.stream(**ask("So. " + CALL, tools=[TOOL])) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "So. "
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output[1].to_dict()["arguments"] == ARGUMENTS


def test_the_client_parses_a_whole_answer(server: Running) -> None:
    answer = server.openai.responses.parse(**ask("plain"))
    assert answer.output_text == "plain"


def test_the_events_of_text(server: Running) -> None:
    found = events(server, ask("ab"))
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    created, added, text, whole = found[0], found[2], found[6], found[-1]
    assert created["response"]["output"] == []
    assert "usage" not in created["response"]
    assert created["response"]["status"] == "in_progress"
    assert (added["item"]["status"], added["item"]["content"]) == ("in_progress", [])
    assert (text["text"], text["item_id"]) == ("ab", added["item"]["id"])
    response = whole["response"]
    assert response["output"] == [found[-2]["item"]]
    assert response["output"][0]["content"][0]["text"] == "ab"
    assert response["usage"]["output_tokens"] == 2
    assert response["id"] == created["response"]["id"]
    Response.model_validate(response)


def test_the_events_of_calls(server: Running) -> None:
    found = events(server, ask(CALL + "\n" + CALL, tools=[TOOL]))
    kinds = [event["type"].removeprefix("response.") for event in found]
    assert kinds.count("function_call_arguments.done") == 2
    assert [event["output_index"] for event in found if "item" in event] == [0, 0, 1, 1]
    deltas = [e["delta"] for e in found if e["type"].endswith("arguments.delta")]
    assert "".join(deltas) == ARGUMENTS * 2
    done = [e for e in found if e["type"].endswith("arguments.done")]
    assert [(e["name"], e["arguments"]) for e in done] == [("get_weather", ARGUMENTS)] * 2
    assert len({item["call_id"] for item in found[-1]["response"]["output"]}) == 2


def test_an_answer_without_room_is_incomplete(server: Running) -> None:
    body = ask("abcdef", max_output_tokens=3)
    answer = server.openai.responses.create(**body)
    assert (answer.status, answer.output_text) == ("incomplete", "abc")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[0].to_dict()["status"] == "incomplete"
    last = events(server, body)[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["max_output_tokens"] == 3


def test_an_empty_answer_is_an_empty_message() -> None:
    format = PromptFormat(kind="chat", template="x")
    with running_server(EchoSettings(), prompt_format=format, stop=["x"]) as running:
        answer = running.openai.responses.create(**ask("hi"))
        assert (answer.output_text, len(answer.output), answer.status) == ("", 1, "completed")


def test_a_failure_in_a_stream_is_its_last_event() -> None:
    with running_server(EchoSettings(fail_after=lambda request: 2)) as running:
        found = events(running, ask("hello"))
    assert found[-1]["type"] == "response.failed"
    failed = found[-1]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert "Told to fail after 2 tokens" in failed["error"]["message"]
    Response.model_validate(failed)


def test_a_conversation_with_calls_and_results_is_rendered() -> None:
    template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls %}"
        "<tool_call>{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
        "{{ m.name }};{% endfor %}{{ tools | length if tools else '' }}"
    )
    with running_server(prompt_format=PromptFormat(kind="chat", template=template)) as running:
        client = running.openai.responses
        input: Any = [
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
             "content": [{"type": "output_text", "text": "So.", "annotations": []}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}',
             "id": "fc_1", "status": "completed"},
            {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
            {"role": "developer", "content": "Be brief."},
        ]  # fmt: skip
        answer = client.create(model="demo", input=input, instructions="You help.")
    assert answer.output_text == (
        'system:You help.;user:Weather?;assistant:So.<tool_call>f{"a": 1};tool:sunnyf;'
        "system:Be brief.;"
    )


def test_what_was_answered_goes_back_as_input(server: Running) -> None:
    client = server.openai.responses
    first = client.create(**ask("one"))
    again = client.create(
        model="demo",
        input=[*first.output, {"role": "user", "content": "two"}],
    )
    assert again.output_text == "two"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "get_weather"}},
         "tool_choice"),
        ({"tools": [{**TOOL, "strict": True}]}, "tools[0].strict"),
        ({"text": {"verbosity": "high"}}, "text.verbosity"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}},
         "text.format.name"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"max_tokens": 3}, "max_tokens"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
         "input[0].content[0]"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
         "input[0].call_id"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    ],
)  # fmt: skip
def test_what_is_not_offered_is_refused_by_name(server: Running, fields: Any, param: str) -> None:
    response = server.post("/v1/responses", {**ask("hi"), **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_harmless_fields_are_taken(server: Running) -> None:
    fields: dict[str, Any] = {
        "background": False, "store": False, "include": [], "truncation": "disabled",
        "service_tier": "auto", "reasoning": {}, "top_logprobs": 0, "user": "eve",
        "prompt_cache_key": "k", "safety_identifier": "s", "text": {"format": {"type": "text"}},
        "conversation": None, "previous_response_id": None, "parallel_tool_calls": True,
        "tool_choice": "none", "seed": 7, "top_k": 3,
    }  # fmt: skip
    response = server.post("/v1/responses", ask("hi", **fields))
    assert response.status_code == 200, response.text


def test_an_answer_repeats_the_choice_of_tools_or_its_default(server: Running) -> None:
    cases: list[tuple[dict[str, Any], str]] = [({}, "auto"), ({"tool_choice": "none"}, "none")]
    for given, answered in cases:
        assert server.post("/v1/responses", ask("hi", **given)).json()["tool_choice"] == answered


def test_nothing_is_stored(server: Running) -> None:
    with server.client as client:
        assert client.get("/v1/responses/resp_1").status_code == 404


def test_every_field_of_the_installed_openai_client_is_known() -> None:
    from openai.types.responses import response_create_params

    from mooring.protocol.openai.responses import ResponseBody

    known = set(ResponseBody.model_fields)
    assert set(response_create_params.ResponseCreateParamsBase.__annotations__) <= known
