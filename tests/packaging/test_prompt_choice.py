from pathlib import Path

import pytest

from mooring.errors import BrokenSource, SourceNotFound
from mooring.packaging.prompt_choice import choose_prompt_format
from mooring.spec.model_spec import ModelSpec
from mooring.spec.prompt import PromptFormat
from tests import models


def choose(folder: Path, prompt: str, system: str | None = None) -> PromptFormat:
    return choose_prompt_format(folder, ModelSpec(source="x", prompt=prompt, system=system))


@pytest.fixture
def chatty(tmp_path: Path) -> Path:
    return models.tiny_llama(tmp_path / "chatty", chat_template=models.CHAT_TEMPLATE)


@pytest.mark.parametrize("prompt", ["auto", "chat"])
def test_the_template_of_the_tokenizer_is_taken(chatty: Path, prompt: str) -> None:
    assert choose(chatty, prompt, "Be brief.") == PromptFormat(
        kind="chat",
        template=models.CHAT_TEMPLATE,
        system="Be brief.",
        special_tokens={"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
    )


def test_without_a_template_auto_is_plain(llama: Path) -> None:
    assert choose(llama, "auto") == PromptFormat(kind="plain")


def test_without_a_template_chat_is_refused(llama: Path) -> None:
    with pytest.raises(BrokenSource, match="Choose --prompt instruct, plain or a Jinja file"):
        choose(llama, "chat")


def test_instruct_and_plain_ignore_the_template(chatty: Path) -> None:
    assert choose(chatty, "instruct", "Be kind.") == PromptFormat(
        kind="instruct", system="Be kind."
    )
    assert choose(chatty, "plain") == PromptFormat(kind="plain")


def test_a_plain_prompt_has_no_place_for_a_system_text(llama: Path) -> None:
    with pytest.raises(BrokenSource, match="no place for a system text"):
        choose(llama, "auto", "Be kind.")


def test_a_file_is_read(llama: Path, tmp_path: Path) -> None:
    template = "{{ bos_token }}{{ messages[0]['content'] }}"
    (tmp_path / "own.jinja").write_text(template)
    chosen = choose(llama, str(tmp_path / "own.jinja"))
    assert (chosen.kind, chosen.template) == ("file", template)
    assert chosen.render_instruction("Hi") == "<s>Hi"


def test_a_file_that_is_missing(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="there is no such file") as caught:
        choose(llama, str(tmp_path / "none.jinja"))
    assert caught.value.param == "prompt"


def test_a_file_that_is_not_jinja(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("{% if %}")
    with pytest.raises(BrokenSource, match="not valid Jinja"):
        choose(llama, str(tmp_path / "own.jinja"))
