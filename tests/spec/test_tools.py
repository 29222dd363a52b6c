import json

import pytest

from mooring.errors import InvalidPrompt, UnsupportedParameter
from mooring.generation import Conversation, Message, Tool, ToolCall
from mooring.spec.prompt import PromptFormat
from mooring.spec.tools import call_format_of

# As published templates do it, cut down to what matters.
QWEN = (
    "{%- if tools %}<tools>{%- for tool in tools %}{{ tool | tojson }}{%- endfor %}</tools>"
    '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    "{%- endif %}{%- for message in messages %}{%- if message.tool_calls %}"
    "{%- for tool_call in message.tool_calls %}{%- if tool_call.function is defined %}"
    "{%- set tool_call = tool_call.function %}{%- endif %}"
    '<tool_call>\n{"name": "{{ tool_call.name }}", "arguments": '
    "{{ tool_call.arguments | tojson }}}\n</tool_call>{%- endfor %}"
    "{%- else %}{{ message.content }}{%- endif %}{%- endfor %}"
)
MISTRAL = (
    "{%- if tools is not none %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{%- endif %}"
    "{%- for message in messages %}{%- if message.tool_calls is defined %}[TOOL_CALLS] ["
    "{%- for tool_call in message.tool_calls %}{{ tool_call.function | tojson }}{%- endfor %}]"
    "{%- else %}{{ message.content }}{%- endif %}{%- endfor %}"
)
LLAMA = (
    "{%- if not tools is defined %}{%- set tools = none %}{%- endif %}"
    '{%- if tools is not none %}{{ \'{"name": function name, "parameters": dictionary of '
    "argument name and its value}' }}{%- for t in tools %}{{ t | tojson }}{%- endfor %}{%- endif %}"
    "{%- for message in messages %}{%- if 'tool_calls' in message %}"
    "{%- if message.tool_calls | length != 1 %}"
    '{{ raise_exception("This model only supports single tool-calls at once!") }}{%- endif %}'
    "{%- set tool_call = message.tool_calls[0].function %}"
    '{{ \'{"name": "\' + tool_call.name + \'", "parameters": \' }}'
    "{{ tool_call.arguments | tojson }}}{%- else %}{{ message['content'] }}"
    "{%- endif %}{%- endfor %}"
)
# Concatenates arguments, as some templates do that want them as text.
TEXT = (
    "{% for message in messages %}{% for tool in message['tool_calls'] %}"
    "{{ tool['function']['name'] + ' ' + tool['function']['arguments'] + '.' }}{% endfor %}"
    "{% endfor %}{% if tools %}<tool_call>{% endif %}"
)
XML = "{% if tools %}<tool_call>\n<function=name>\n</function>\n</tool_call>{% endif %}"
CALL = ToolCall("c1", "f", '{"a":  "é"}')
MESSAGES = (Message("user", "u"), Message("assistant", "", (CALL,)))
TOOL = Tool("f", "Does.", {"type": "object", "properties": {}}, strict=True)


@pytest.mark.parametrize(
    ("template", "format"),
    [(QWEN, "hermes"), (MISTRAL, "mistral"), (LLAMA, "llama3"), (TEXT, "hermes"), (XML, None),
     ("{{ messages }}", None), ("{{ tools }}", None), ("<tool_call>", None)],
)  # fmt: skip
def test_the_template_tells_how_a_model_calls(template: str, format: str | None) -> None:
    assert PromptFormat(kind="chat", template=template).call_format == format


def test_formats_without_a_template_know_no_tools() -> None:
    for kind in ("plain", "instruct"):
        format = PromptFormat(kind=kind)
        assert (format.takes_tools, format.call_format) == (False, None)
    assert call_format_of("[TOOL_CALLS] <tool_call>") == "mistral"


@pytest.mark.parametrize(
    ("template", "call"),
    [
        (QWEN, '<tool_call>\n{"name": "f", "arguments": {"a": "é"}}\n</tool_call>'),
        (MISTRAL, '[TOOL_CALLS] [{"name": "f", "arguments": {"a": "é"}}]'),
        (LLAMA, '{"name": "f", "parameters": {"a": "é"}}'),
        (TEXT, 'f {"a":  "é"}.'),
    ],
)
def test_a_call_is_rendered_as_the_model_writes_it(template: str, call: str) -> None:
    format = PromptFormat(kind="chat", template=template)
    text = format.render_conversation(Conversation(MESSAGES))
    assert text in ("u" + call, call)
    opened = format.render_conversation(Conversation(MESSAGES, opening="[X]"))
    assert opened == text + "[X]"


def test_tools_are_told_without_what_is_ours() -> None:
    format = PromptFormat(kind="chat", template=MISTRAL)
    text = format.render_conversation(Conversation(MESSAGES[:1], (TOOL,)))
    told = text.removeprefix("[AVAILABLE_TOOLS]").removesuffix("[/AVAILABLE_TOOLS]u")
    function = {"name": "f", "description": "Does.", "parameters": TOOL.parameters}
    assert json.loads(told) == [{"type": "function", "function": function}]


def test_what_has_no_place_is_refused() -> None:
    format = PromptFormat(kind="chat", template="{{ messages[0].content }}")
    with pytest.raises(UnsupportedParameter, match=r"^`tools` are not supported by this model"):
        format.render_conversation(Conversation(MESSAGES[:1], (TOOL,)))
    with pytest.raises(InvalidPrompt, match=r"^`messages\[1\]\.tool_calls` are not supported"):
        format.render_conversation(Conversation(MESSAGES))
    two = (MESSAGES[0], Message("assistant", "", (CALL, ToolCall("c2", "f", "{}"))))
    with pytest.raises(InvalidPrompt, match="only supports single tool-calls"):
        PromptFormat(kind="chat", template=LLAMA).render_conversation(Conversation(two))
