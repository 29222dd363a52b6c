"""Prompt formats render byte for byte what a model was trained on, in a sandbox."""

import pytest

from mooring.errors import BrokenSource, InvalidPrompt
from mooring.spec.prompt import PromptFormat

INSTRUCT = (
    b"Below is an instruction that describes a task. Write a response that appropriately "
    b"completes the request.\n### Instruction:\nWhat is machine learning?\n### Response:\n"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
USER = [{"role": "user", "content": "Hi"}]
SYSTEM = [{"role": "system", "content": "Be brief."}]


def chat(template: str = CHATML, **values: object) -> PromptFormat:
    return PromptFormat.model_validate({"kind": "chat", "template": template, **values})


def test_the_rendered_instruct_prompt_equals_the_format_byte_for_byte() -> None:
    format = PromptFormat(kind="instruct")
    assert format.render_instruction("What is machine learning?").encode() == INSTRUCT
    messages = [{"role": "user", "content": "What is machine learning?"}]
    assert format.render_messages(messages).encode() == INSTRUCT


def test_braces_in_an_instruction_are_text() -> None:
    rendered = PromptFormat(kind="instruct").render_instruction("{introduction} {x} {{y}}")
    assert "\n### Instruction:\n{introduction} {x} {{y}}\n### Response:\n" in rendered


def test_the_system_text_takes_the_place_of_the_introduction() -> None:
    format = PromptFormat(kind="instruct", system="Be brief.")
    assert format.render_instruction("Hi") == "Be brief.\n### Instruction:\nHi\n### Response:\n"
    own = format.render_messages([{"role": "system", "content": "Be long."}, *USER])
    assert own == "Be long.\n### Instruction:\nHi\n### Response:\n"


def test_instruct_refuses_what_it_was_not_trained_on() -> None:
    turns = [*USER, {"role": "assistant", "content": "Hello"}, *USER]
    with pytest.raises(InvalidPrompt, match="Given roles: user, assistant, user"):
        PromptFormat(kind="instruct").render_messages(turns)


def test_plain_takes_the_prompt_as_it_is_and_no_messages() -> None:
    format = PromptFormat(kind="plain")
    assert format.render_instruction(" as it is\n") == " as it is\n"
    with pytest.raises(InvalidPrompt, match="`messages` need a chat template, and this model has"):
        format.render_messages(USER)


def test_chat_renders_messages_and_instructions_alike() -> None:
    expected = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert chat().render_messages(USER) == expected
    assert chat().render_instruction("Hi") == expected


def test_the_packaged_system_text_is_for_those_who_bring_none() -> None:
    format = chat(system="Be brief.")
    brief = "<|im_start|>system\nBe brief.<|im_end|>\n" + chat().render_messages(USER)
    assert format.render_messages(USER) == brief
    assert format.render_messages([*SYSTEM, *USER]) == brief


def test_templates_own_their_special_tokens() -> None:
    format = chat("{{ bos_token }}{{ messages[0].content }}", special_tokens={"bos_token": "<s>"})
    assert format.render_instruction("Hi") == "<s>Hi"
    assert not format.adds_special_tokens
    assert PromptFormat(kind="instruct").adds_special_tokens


def test_what_chat_templates_rely_on_is_there() -> None:
    template = (
        "{%- for m in messages -%}{% generation %}{{ m | tojson }}{% endgeneration %}"
        "{% if loop.first %}{% break %}{% endif %}{%- endfor -%}{{ strftime_now('%Y')[:2] }}"
    )
    rendered = chat(template).render_messages([{"role": "user", "content": "<é>"}])
    assert rendered == '{"role": "user", "content": "<é>"}20'


def test_a_templates_own_refusal_is_passed_on() -> None:
    template = "{{ raise_exception('Roles must alternate.') }}"
    with pytest.raises(InvalidPrompt, match="refuses these messages: Roles must alternate"):
        chat(template).render_messages(USER)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages[0].content.nothing.more }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ 1 / 0 }}",
    ],
)
def test_templates_run_in_a_sandbox(template: str) -> None:
    with pytest.raises(InvalidPrompt, match=r"cannot render these messages. Given roles: user"):
        chat(template).render_messages(USER)


def test_a_rendered_prompt_is_bounded() -> None:
    with pytest.raises(InvalidPrompt, match=r"at most 4000000 characters. Given: 5000000"):
        chat("{{ 'a' * 5000000 }}").render_messages(USER)


def test_bad_formats_are_refused_when_made() -> None:
    with pytest.raises(BrokenSource, match=r"not valid Jinja.*line 1"):
        chat("{% for %}")
    with pytest.raises(BrokenSource, match="needs a template"):
        PromptFormat(kind="chat")
    with pytest.raises(BrokenSource, match="no place for a system text"):
        PromptFormat(kind="plain", system="x")
    with pytest.raises(InvalidPrompt, match="at least one message"):
        chat().render_messages([])
