from pathlib import Path
from typing import Any

import pytest

from mooring.errors import BrokenSource, UnsafeSource
from mooring.packaging.trust import code_modules, refuse_untrusted
from tests import models
from tests.packaging.conftest import edit_json

CODE = {"AutoModelForCausalLM": "modeling_x.XForCausalLM"}


def refuse(folder: Path, *, trust: bool = False) -> bool:
    return refuse_untrusted(folder, trust_remote_code=trust)


def test_a_plain_model_runs_no_code(llama: Path) -> None:
    assert refuse(llama) is False
    assert refuse(llama, trust=True) is False
    assert code_modules(llama) == ()


def test_code_needs_trust_and_is_named(remote_code: Path) -> None:
    with pytest.raises(UnsafeSource) as caught:
        refuse(remote_code)
    assert "would run: configuration_harbor.py, modeling_harbor.py." in caught.value.message
    assert "--trust-remote-code" in caught.value.message
    assert refuse(remote_code, trust=True) is True


def test_code_that_is_missing_is_broken(remote_code: Path) -> None:
    (remote_code / "modeling_harbor.py").unlink()
    with pytest.raises(BrokenSource, match=r"names modeling_harbor\.py, which is missing"):
        refuse(remote_code, trust=True)


def test_code_of_the_tokenizer_needs_trust(llama: Path) -> None:
    edit_json(llama / "config.json", model_type="own", architectures=["OwnForCausalLM"])
    edit_json(llama / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Slow", None]})
    with pytest.raises(UnsafeSource, match=r"would run: tok\.py\."):
        refuse(llama)
    assert code_modules(llama) == ("tok",)


def test_code_in_a_nested_config_needs_trust(llama: Path) -> None:
    edit_json(llama / "config.json", model_type="own", vision={"auto_map": CODE})
    with pytest.raises(UnsafeSource, match=r"would run: modeling_x\.py\."):
        refuse(llama)


def test_where_transformers_knows_the_model_its_own_code_is_not_needed(tmp_path: Path) -> None:
    mpt = models.tiny_mpt(tmp_path / "mpt")
    auto_map = {"AutoModelForCausalLM": "modeling_mpt.MPTForCausalLM"}
    edit_json(mpt / "config.json", auto_map=auto_map, architectures=["MPTForCausalLM"])
    assert refuse(mpt) is False


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["OtherForCausalLM"]},
        {"architectures": None},
        {"model_type": "mpt2"},
        {"model_type": "../mpt"},
        {"model_type": None},
    ],
)
def test_a_model_that_only_looks_known_needs_trust(tmp_path: Path, changes: Any) -> None:
    mpt = models.tiny_mpt(tmp_path / "mpt")
    edit_json(mpt / "config.json", auto_map=CODE, **changes)
    with pytest.raises(UnsafeSource, match=r"modeling_x\.py"):
        refuse(mpt)


def test_a_known_model_with_a_tokenizer_of_its_own_needs_trust(llama: Path) -> None:
    edit_json(llama / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Slow", None]})
    assert refuse(llama) is False
    (llama / "tokenizer.json").unlink()
    with pytest.raises(UnsafeSource, match=r"tok\.py"):
        refuse(llama)


@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "reference",
    [
        "other/repo--modeling.X",
        "other--modeling.X",
        "../modeling.X",
        "/tmp/modeling.X",
        "a..b.X",
        "modeling",
        "",
        "mod eling.X",
        "modeling.X\n",
        "os.path;import os.X",
    ],
)
def test_code_elsewhere_is_refused_even_if_trusted(
    llama: Path, file: str, reference: str, trust: bool
) -> None:
    edit_json(llama / file, auto_map={"AutoConfig": [None, reference]})
    with pytest.raises(UnsafeSource, match=f"`auto_map` of {file} must name classes in files"):
        refuse(llama, trust=trust)


@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"_attn_implementation_internal": "sdpa"}, "_attn_implementation_internal"),
        ({"_experts_implementation_internal": "x"}, "_experts_implementation_internal"),
        ({"transformers_weights": "other.safetensors"}, "transformers_weights"),
        ({"trust_remote_code": True}, "trust_remote_code"),
        ({"text_config": {"trust_remote_code": True}}, "text_config.trust_remote_code"),
        ({"a": [{"b": {"trust_remote_code": 1}}]}, "a.b.trust_remote_code"),
        ({"attn_implementation": "evil/kernel"}, "attn_implementation"),
        ({"_attn_implementation": "evil/kernel@main:f"}, "_attn_implementation"),
        ({"attn_implementation": {"text_config": "evil/kernel"}}, "attn_implementation"),
        ({"x": {"experts_implementation": "evil/kernel"}}, "x.experts_implementation"),
    ],
)
def test_trick_keys_are_refused_even_if_trusted(
    llama: Path, file: str, changes: dict[str, Any], path: str, trust: bool
) -> None:
    edit_json(llama / file, **changes)
    with pytest.raises(UnsafeSource, match=f"{file} must not .*`{path}`"):
        refuse(llama, trust=trust)


def test_harmless_forms_of_these_keys_pass(llama: Path) -> None:
    edit_json(
        llama / "config.json",
        trust_remote_code=False,
        _attn_implementation="sdpa",
        attn_implementation={"text_config": "eager"},
        auto_map={},
    )
    assert refuse(llama) is False
