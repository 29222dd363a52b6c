"""Tools through HTTP: the echo engine says whatever the last message holds."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mooring.engines.echo import EchoSettings
from mooring.settings import ServerLimits, ServerSettings
from mooring.spec.prompt import PromptFormat
from tests.http.serving import PATIENCE, Running, running_server
from tests.http.test_openai import events_of

ARGUMENTS = '{"city": "Zürich", "days": [1, 2]}'
CALLS = {
    "hermes": f'<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>',
    "llama3": f'{{"name": "get_weather", "parameters": {ARGUMENTS}}}',
    "mistral": f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {ARGUMENTS}}}]',
}
MARKS = {"hermes": "<tool_call>", "llama3": "<|python_tag|>", "mistral": "[TOOL_CALLS]"}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def saying(mark: str) -> PromptFormat:
    """Return a format whose model, the echo engine, says the last message."""
    template = "{% if tools %}{# " + mark + " #}{% endif %}{{ messages[-1].content }}"
    return PromptFormat(kind="chat", template=template)


@pytest.fixture(scope="module", params=sorted(CALLS))
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(format: str) -> Iterator[Running]:
    with running_server(prompt_format=saying(MARKS[format])) as running:
        yield running


@pytest.fixture(scope="module")
def hermes() -> Iterator[Running]:
    with running_server(prompt_format=saying(MARKS["hermes"])) as running:
        yield running


def ask(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "demo", "messages": messages, "tools": [TOOL], **fields}


def test_a_call_is_answered_as_a_call(server: Running, format: str) -> None:
    answer = server.openai.chat.completions.create(**ask(CALLS[format]))
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("get_weather", ARGUMENTS)
    assert len(call.id) == 9 if format == "mistral" else call.id.startswith("call_")


def test_a_call_is_streamed_with_openais_helper(server: Running, format: str) -> None:
    with server.openai.chat.completions.stream(**ask(CALLS[format], n=2)) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion()
    assert events.count("tool_calls.function.arguments.done") == 2
    assert events.count("tool_calls.function.arguments.delta") > 10
    for choice in final.choices:
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        assert choice.message.tool_calls[0].function.arguments == ARGUMENTS
    assert len({choice.message.tool_calls[0].id for choice in final.choices}) == 2  # type: ignore[index]


def test_the_bytes_of_a_streamed_call(hermes: Running) -> None:
    text = "So. " + CALLS["hermes"]
    response = hermes.post("/v1/chat/completions", ask(text, stream=True))
    *chunks, done = events_of(response)
    assert done == "[DONE]"
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    deltas = [choice["delta"] for choice in choices]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    content = [delta["content"] for delta in deltas[1:] if "content" in delta]
    assert "".join(content) == "So. "
    start, *parts = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert start == {
        "index": 0, "id": start["id"], "type": "function",
        "function": {"name": "get_weather", "arguments": ""},
    }  # fmt: skip
    assert all(part.keys() == {"index", "function"} for part in parts)
    assert "".join(part["function"]["arguments"] for part in parts) == ARGUMENTS
    assert (deltas[-1], choices[-1]["finish_reason"]) == ({}, "tool_calls")
    assert {choice["finish_reason"] for choice in choices[:-1]} == {None}


def test_several_calls_are_numbered_and_only_one_is_given_where_only_one_is_wanted(
    hermes: Running,
) -> None:
    text = CALLS["hermes"] + "\n" + CALLS["hermes"].replace("get_weather", "now")
    for stream in (False, True):
        for parallel, names in ((True, ["get_weather", "now"]), (False, ["get_weather"])):
            body = ask(text, stream=stream, parallel_tool_calls=parallel)
            response = hermes.post("/v1/chat/completions", body)
            assert _names(response.text, stream=stream) == names


def _names(text: str, *, stream: bool) -> list[str]:
    if not stream:
        return [
            c["function"]["name"] for c in json.loads(text)["choices"][0]["message"]["tool_calls"]
        ]
    chunks = [json.loads(line[6:]) for line in text.split("\n\n") if "tool_calls" in line]
    calls = [call for c in chunks for call in c["choices"][0]["delta"].get("tool_calls", ())]
    starts = [call for call in calls if "id" in call]
    assert [call["index"] for call in starts] == list(range(len(starts)))
    return [call["function"]["name"] for call in starts]


@pytest.mark.parametrize("stream", [False, True])
def test_text_and_broken_calls_stay_text(hermes: Running, stream: bool) -> None:
    for text in ("No call.", "<tool_call>{broken}</tool_call>", "<tool_call>"):
        response = hermes.post("/v1/chat/completions", ask(text, stream=stream))
        if stream:
            *chunks, _ = events_of(response)
            choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
            said = "".join(choice["delta"].get("content", "") for choice in choices)
            assert (said, choices[-1]["finish_reason"]) == (text, "stop")
        else:
            (choice,) = response.json()["choices"]
            assert choice["message"] == {"role": "assistant", "content": text, "refusal": None}
            assert choice["finish_reason"] == "stop"


def test_without_tools_or_with_none_wanted_nothing_is_read(hermes: Running) -> None:
    off: list[dict[str, Any]] = [{"tools": None}, {"tools": []}, {"tool_choice": "none"}]
    for fields in off:
        response = hermes.post("/v1/chat/completions", ask(CALLS["hermes"], **fields))
        (choice,) = response.json()["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == (CALLS["hermes"], "stop")


def test_an_answer_with_its_results_goes_back_through_the_client(hermes: Running) -> None:
    client = hermes.openai.chat.completions
    first = client.create(**ask(CALLS["hermes"])).choices[0].message
    assert first.tool_calls is not None
    body = ask("hi")
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "sunny"}
    body["messages"] += [first, result]
    with pytest.raises(Exception, match=r"messages\[1\]\.tool_calls"):
        client.create(**body)  # this template has no place for calls


CHAT_WITH_CALLS = (
    "{% for m in messages %}{{ m.role }}:{{ m.content }}"
    "{% for c in m.tool_calls %}<tool_call>{{ c.function.name }}"
    "{{ c.function.arguments | tojson }}{{ c.id }}{% endfor %}"
    "{% if m.role == 'tool' %}={{ m.name }}/{{ m.tool_call_id }}{% endif %}{{ '\n' }}"
    "{% endfor %}{{ tools | tojson if tools }}"
)


def test_the_template_gets_tools_calls_and_results() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages: Any = [
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
    ]
    format = PromptFormat(kind="chat", template=CHAT_WITH_CALLS)
    with running_server(prompt_format=format) as running:
        tools: Any = [TOOL, {"type": "function", "function": {"name": "g", "strict": False}}]
        answer = running.openai.chat.completions.create(
            model="demo", messages=messages, tools=tools
        )
    told, shown = (answer.choices[0].message.content or "").split("=f/c1\n")
    assert told == 'user:u\nassistant:<tool_call>f{"a": 1}c1\ntool:r'
    nothing = {"type": "object", "properties": {}}
    assert json.loads(shown) == [
        TOOL, {"type": "function", "function": {"name": "g", "parameters": nothing}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"functions": [{"name": "f"}]}, "functions", "Send `tools`"),
        ({"function_call": "auto"}, "function_call", "Send `tool_choice`"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type", "must be 'function'"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]},
         "tools[0].function.name", "must match ^[a-zA-Z0-9_-]{1,64}$. Given: 'a b'."),
        ({"tools": [TOOL, TOOL]}, "tools[1]", "Given twice: get_weather"),
        ({"tools": [TOOL] * 129}, "tools", "at most 128"),
        ({"tools": None, "tool_choice": "auto"}, "tool_choice", "may only be given with `tools`"),
        ({"tool_choice": "maybe"}, "tool_choice", 'must be "none", "auto", "required"'),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice",
         '"allowed_tools" is not supported'),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice",
         "must name one of `tools`. Given: 'g'"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
         "tools[0].function.strict", "The echo engine cannot keep answers"),
        ({"tool_choice": "required"}, "tool_choice", "The echo engine cannot keep answers"),
        ({"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
         "tool_choice", "The echo engine cannot keep answers"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(
    hermes: Running, fields: Any, param: str, words: str
) -> None:
    response = hermes.post("/v1/chat/completions", ask("hi", **fields))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert words in error["message"]


def test_a_model_whose_calls_cannot_be_read_refuses_tools_unless_told_otherwise() -> None:
    with running_server() as running:
        error = running.post("/v1/chat/completions", ask("hi")).json()["error"]
        assert error["param"] == "tools"
        assert "does not show a known way" in error["message"]
        body = ask("hi", tool_choice="none")
        assert running.post("/v1/chat/completions", body).status_code == 200
    limits = ServerLimits(drain_seconds=PATIENCE)
    template = PromptFormat(
        kind="chat", template="{{ tools | length if tools else 0 }}{{ messages[-1].content }}"
    )
    for name in ("none", "mistral"):
        settings = ServerSettings(port=0, server=limits, tool_format=name)
        with running_server(EchoSettings(), settings, prompt_format=template) as running:
            answer = running.post("/v1/chat/completions", ask(CALLS["mistral"])).json()
            message = answer["choices"][0]["message"]
            called = [call["function"]["name"] for call in message.get("tool_calls", ())]
            if name == "none":
                assert message["content"] == "1" + CALLS["mistral"]
            else:
                assert (message["content"], called) == ("1", ["get_weather"])
        with running_server(settings=settings) as running:
            error = running.post("/v1/chat/completions", ask("hi")).json()["error"]
            assert (error["param"], error["code"]) == ("tools", "unsupported_parameter")
            assert "has no place for them" in error["message"]
