from pathlib import Path
from typing import Any

import pytest

from mooring.errors import BrokenSource
from mooring.packaging.tokenizer_files import (
    chat_template,
    check_tokenizer,
    read_text,
    special_tokens,
)
from tests.packaging.conftest import edit_json


@pytest.mark.parametrize("name", ["tokenizer.model", "qwen.tiktoken", "vocab.json", "vocab.txt"])
def test_other_tokenizers_are_left_to_transformers(tmp_path: Path, name: str) -> None:
    assert check_tokenizer(tmp_path, ["config.json", name], own_code=False) is None


def test_own_code_may_make_the_tokenizer(tmp_path: Path) -> None:
    assert check_tokenizer(tmp_path, ["config.json"], own_code=True) is None
    with pytest.raises(BrokenSource, match="must bring its tokenizer"):
        check_tokenizer(tmp_path, ["config.json"], own_code=False)


def test_special_tokens_are_texts_by_name(tmp_path: Path) -> None:
    edit_json(tmp_path / "special_tokens_map.json", bos_token="<old>", unk_token={"content": "<u>"})
    edit_json(
        tmp_path / "tokenizer_config.json",
        bos_token={"content": "<s>", "lstrip": False},
        eos_token="</s>",
        pad_token={"id": 3},
        add_bos_token=True,
        model_max_length=10,
    )
    assert special_tokens(tmp_path) == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<u>"}


def test_no_files_no_tokens_no_template(tmp_path: Path) -> None:
    assert special_tokens(tmp_path) == {}
    assert chat_template(tmp_path) is None


def test_templates_are_looked_up_in_the_order_of_transformers(tmp_path: Path) -> None:
    edit_json(tmp_path / "tokenizer_config.json", chat_template="in config")
    assert chat_template(tmp_path) == "in config"
    edit_json(tmp_path / "chat_template.json", chat_template="in json")
    assert chat_template(tmp_path) == "in json"
    (tmp_path / "chat_template.jinja").write_text("Füße")
    assert chat_template(tmp_path) == "Füße"


@pytest.mark.parametrize(
    ("value", "template"),
    [
        ([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}], "d"),
        ([{"name": "only", "template": "o"}], "o"),
        ([{"name": "a", "template": "1"}, {"name": "b", "template": "2"}], None),
        ([{"name": "default"}, "x"], None),
        (7, None),
    ],
)
def test_of_several_templates_the_default_is_taken(
    tmp_path: Path, value: Any, template: str | None
) -> None:
    edit_json(tmp_path / "tokenizer_config.json", chat_template=value)
    assert chat_template(tmp_path) == template


def test_text_must_be_utf8(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_bytes(b"\xff")
    with pytest.raises(BrokenSource, match=r"t\.jinja must be UTF-8 text"):
        read_text(tmp_path / "t.jinja")
    with pytest.raises(BrokenSource, match="Given: Is a directory"):
        read_text(tmp_path)
