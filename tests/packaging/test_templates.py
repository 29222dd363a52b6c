"""Chat templates render as transformers renders them, wherever a snapshot keeps them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from mooring.packaging.prompt_choice import choose_prompt_format
from mooring.spec.model_spec import ModelSpec
from tests import models
from tests.packaging.conftest import edit_json

TEMPLATES = {
    "plain": models.CHAT_TEMPLATE,
    "blocks on lines of their own": (
        "{{ bos_token }}\n{%- for m in messages %}\n  {% if loop.first %}\n  first\n  {% endif %}\n"
        "    {{ m.role + ': ' + m.content | trim }}{{ eos_token }}\n{% endfor %}\n"
        "{% if add_generation_prompt %}\nassistant:\n{% endif %}\n"
    ),
    "loop controls": (
        "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
        "{{ m.content }}{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}"
    ),
    "json": (
        "{{ messages | tojson }}{{ messages | tojson(indent=2) }}{{ messages[0] | tojson(true) }}"
        "{{ messages[0] | tojson(separators=(',', ':'), sort_keys=true) }}"
    ),
    "namespace": (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
        "{{ ns.n }}{{ dict(a=1) }}{{ strftime_now('%Y') }}"
    ),
    "generation": (
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    ),
    "tools, documents": "{{ tools is none }}{{ documents is none }}{{ tools is defined }}{{ x }}",
}
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "user", "assistant"]),
            "content": st.text(st.characters(codec="utf-8"), max_size=12)
            | st.sampled_from(["<s>", " a ", "{{ x }}", "é<&>'\"\n", "</s>\n"]),
        }
    ),
    min_size=1,
    max_size=4,
)


def _in_config(folder: Path, template: str) -> None:
    edit_json(folder / "tokenizer_config.json", chat_template=template)


def _named(folder: Path, template: str) -> None:
    named = [
        {"name": "other", "template": "other"},
        {"name": "default", "template": template},
    ]
    edit_json(folder / "tokenizer_config.json", chat_template=named)


def _in_file(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)


@pytest.mark.parametrize("place", [_in_config, _named, _in_file])
@pytest.mark.parametrize("name", TEMPLATES)
def test_prompts_are_those_of_transformers(
    tmp_path: Path, place: Callable[[Path, str], None], name: str
) -> None:
    models.save_tokenizer(tmp_path)
    place(tmp_path, TEMPLATES[name])
    own = choose_prompt_format(tmp_path, ModelSpec(source="x"))
    theirs: Any = transformers.AutoTokenizer.from_pretrained(tmp_path)

    @settings(max_examples=25, deadline=None)
    @given(messages=MESSAGES)
    def compare(messages: list[dict[str, str]]) -> None:
        expected = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert own.render_messages(messages) == expected

    compare()
