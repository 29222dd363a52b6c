"""Thoughts through HTTP: the echo engine says whatever the last message holds."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mooring.settings import ReasoningFormatName, ServerLimits, ServerSettings
from mooring.spec.prompt import PromptFormat
from tests.http.serving import PATIENCE, Running, running_server
from tests.http.test_openai import events_of
from tests.http.test_tools import ARGUMENTS, CALLS, TOOL

# As models' own templates do, it cuts thoughts out of earlier turns, and may begin one.
TEMPLATE = PromptFormat(
    kind="chat",
    template=(
        "{% for m in messages[:-1] %}"
        "{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}"
        "{{ m.content.split('</think>')[-1] }};"
        "{% endfor %}{% if tools %}{# <tool_call> #}{% endif %}{{ messages[-1].content }}"
        "{% if add_generation_prompt and thinks %}<think>\n{% endif %}"
    ),
)
TEXT = "<think>\nTwo and two.\n</think>\n\nFour."


def server_with(
    reasoning_format: ReasoningFormatName = "auto", template: PromptFormat = TEMPLATE
) -> Any:
    settings = ServerSettings(
        port=0, server=ServerLimits(drain_seconds=PATIENCE), reasoning_format=reasoning_format
    )
    return running_server(settings=settings, prompt_format=template)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with server_with() as running:
        yield running


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": text}], **fields}


def message_of(server: Running, body: dict[str, Any]) -> dict[str, Any]:
    response = server.post("/v1/chat/completions", body)
    assert response.status_code == 200, response.text
    message: dict[str, Any] = response.json()["choices"][0]["message"]
    return message


def test_a_thought_is_told_from_what_is_said(server: Running) -> None:
    assert message_of(server, ask(TEXT)) == {
        "role": "assistant", "content": "Four.", "refusal": None,
        "reasoning": "Two and two.", "reasoning_content": "Two and two.",
    }  # fmt: skip
    assert message_of(server, ask("Four.")) == {
        "role": "assistant", "content": "Four.", "refusal": None
    }  # fmt: skip
    cut = message_of(server, ask(TEXT, max_tokens=14))
    assert (cut["content"], cut["reasoning"]) == (None, "Two an")


def test_a_thought_is_streamed(server: Running) -> None:
    *chunks, _ = events_of(server.post("/v1/chat/completions", ask(TEXT, stream=True)))
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Two and two."
    assert "".join(delta.get("content") or "" for delta in deltas) == "Four."
    kinds = [
        "reasoning" in delta for delta in deltas if delta.get("content") or "reasoning" in delta
    ]
    assert kinds == sorted(kinds, reverse=True)
    assert len(kinds) > 10
    assert server.openai.chat.completions.create(**ask(TEXT)).choices[0].message.content == "Four."


def test_an_answer_that_begins_within_a_thought(server: Running) -> None:
    """The echo engine says the prompt again, with the tag that opens the thought at its end."""
    told = {"chat_template_kwargs": {"thinks": True}}
    message = message_of(server, ask("Two.</think>Four.", **told))
    assert (message["reasoning"], message["content"]) == ("Two.", "Four.<think>\n")


def test_calls_are_read_in_what_follows_a_thought(server: Running) -> None:
    text = f"<think>Call {CALLS['hermes']}?</think>{CALLS['hermes']}"
    for stream in (False, True):
        body = ask(text, tools=[TOOL], stream=stream)
        if stream:
            with server.openai.chat.completions.stream(**ask(text, tools=[TOOL])) as events:
                calls = events.get_final_completion().choices[0].message.tool_calls
            assert calls is not None
            found = [call.function.arguments for call in calls]
        else:
            message = message_of(server, body)
            assert message["reasoning"].startswith("Call <tool_call>")
            found = [call["function"]["arguments"] for call in message["tool_calls"]]
        assert found == [ARGUMENTS]


@pytest.mark.parametrize(
    "names", [("reasoning",), ("reasoning_content",), ("reasoning", "reasoning_content")]
)
def test_a_client_sends_a_thought_back(server: Running, names: tuple[str, ...]) -> None:
    before = {"role": "assistant", "content": "four", **dict.fromkeys(names, "two")}
    body = ask("next") | {"messages": [before, {"role": "user", "content": "next"}]}
    assert message_of(server, body)["content"] == "(two)four;next"
    alone = {"role": "assistant", **dict.fromkeys(names, "two")}
    body["messages"][0] = alone
    assert message_of(server, body)["content"] == "(two);next"


def test_strange_thoughts_are_refused_by_name(server: Running) -> None:
    other = "messages[0].reasoning_content"
    for role, fields, param in (
        ("assistant", {"reasoning": 5}, "messages[0].reasoning"),
        ("assistant", {"reasoning": "a", "reasoning_content": "b"}, other),
        ("user", {"reasoning": "a"}, "messages[0].reasoning"),
    ):  # fmt: skip
        messages = [{"role": role, "content": "x", **fields}]
        error = server.post("/v1/chat/completions", ask("x") | {"messages": messages}).json()[
            "error"
        ]
        assert error["param"] == param


def test_responses_have_an_item_for_a_thought(server: Running) -> None:
    with server.openai as client:
        response = client.responses.create(model="demo", input=TEXT)
        reasoning, _ = response.output
        assert reasoning.type == "reasoning"
        assert reasoning.content is not None
        assert [part.text for part in reasoning.content] == ["Two and two."]
        assert response.output_text == "Four."
        events = list(client.responses.create(model="demo", input=TEXT, stream=True))
        deltas = [e.delta for e in events if e.type == "response.reasoning_text.delta"]
        assert "".join(deltas) == "Two and two."
        kinds = [
            event.type.removeprefix("response.") for event in events if "delta" not in event.type
        ]
        assert kinds == [
            "created", "in_progress",
            "output_item.added", "content_part.added", "reasoning_text.done", "content_part.done",
            "output_item.done",
            "output_item.added", "content_part.added", "output_text.done", "content_part.done",
            "output_item.done", "completed",
        ]  # fmt: skip
        again = [item.model_dump(exclude_none=True) for item in response.output]
        more: Any = [*again, {"role": "user", "content": "next"}]
        assert (
            client.responses.create(model="demo", input=more).output_text
            == "(Two and two.)Four.;next"
        )


def test_thoughts_stay_in_the_text_where_they_are_not_read() -> None:
    plain = PromptFormat(kind="chat", template="{{ messages[-1].content }}")
    for setting, template, content in (
        ("none", TEMPLATE, TEXT), ("auto", plain, TEXT), ("think", plain, "Four."),
    ):  # fmt: skip
        with server_with(setting, template) as running:  # type: ignore[arg-type]
            assert message_of(running, ask(TEXT))["content"] == content
