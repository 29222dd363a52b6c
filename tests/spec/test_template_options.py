"""What clients may say of how their messages are rendered."""

from typing import Any

import pytest

from mooring.errors import InvalidInput
from mooring.generation import Conversation, Message, TemplateOptions
from mooring.spec.prompt import PromptFormat

CHAT = PromptFormat(
    kind="chat",
    template=(
        "{% for m in messages %}<{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}>"
        "{{ m.content | trim }}</>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% if not thinking %}!{% endif %}{% endif %}"
    ),
    special_tokens={"bos_token": "<s>"},
)
HI = Message("user", "hi", name="eve")
BEGUN = Message("assistant", " Once, Once ")


def rendered(*messages: Message, format: PromptFormat = CHAT, **options: Any) -> str:
    return format.render_conversation(Conversation(messages, options=TemplateOptions(**options)))


def test_options_reach_the_template() -> None:
    assert rendered(HI) == "<user eve>hi</><assistant>!"
    assert rendered(HI, values={"thinking": True}) == "<user eve>hi</><assistant>"
    assert rendered(HI, answers=False) == "<user eve>hi</>"


def test_an_answer_goes_on_with_the_last_message() -> None:
    text = rendered(HI, BEGUN, answers=False, continues=True)
    assert text == "<user eve>hi</><assistant>Once, Once"


@pytest.mark.parametrize(
    ("messages", "options", "param"),
    [
        ((HI,), {"values": {"unread": 1}}, "chat_template_kwargs.unread"),
        ((HI,), {"values": {"tokenize": True}}, "chat_template_kwargs.tokenize"),
        ((HI,), {"values": {"__class__": 1}}, "chat_template_kwargs.__class__"),
        ((HI,), {"values": {"documents": [{}]}}, "documents"),
        ((HI,), {"values": {"messages": []}}, "chat_template_kwargs.messages"),
        ((HI,), {"values": {"bos_token": "x"}}, "chat_template_kwargs.bos_token"),
        ((HI,), {"continues": True, "answers": False}, "continue_final_message"),
    ],
)
def test_what_the_template_cannot_do_is_named(messages: Any, options: Any, param: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        rendered(*messages, **options)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("messages", "options", "param"),
    [
        ((HI,), {}, "messages[0].name"),
        ((Message("user", "hi"),), {"answers": False}, "add_generation_prompt"),
        ((Message("user", "hi"),), {"values": {"thinking": 1}}, "chat_template_kwargs.thinking"),
    ],
)
def test_a_format_without_a_template_takes_none(messages: Any, options: Any, param: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        rendered(*messages, format=PromptFormat(kind="instruct"), **options)
    assert refusal.value.param == param


def test_a_message_that_the_template_changes_cannot_be_gone_on_with() -> None:
    loud = PromptFormat(kind="file", template="{{ messages[-1].content | upper }}")
    with pytest.raises(InvalidInput, match="changes the last message"):
        rendered(HI, BEGUN, format=loud, answers=False, continues=True)
