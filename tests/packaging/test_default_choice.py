from pathlib import Path
from typing import Any

import pytest

from mooring.errors import BrokenSource
from mooring.generation.sampling import SamplingParams
from mooring.packaging.default_choice import choose_defaults
from mooring.spec.model_spec import ModelSpec
from tests.packaging.conftest import edit_json


def choose(folder: Path, context_length: int = 4096, **defaults: Any) -> dict[str, Any]:
    return choose_defaults(folder, ModelSpec(source="x", defaults=defaults), context_length)


def test_ours_where_nothing_is_said(tmp_path: Path) -> None:
    assert choose(tmp_path) == {
        "max_tokens": 1000,
        "temperature": 0.1,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": None,
        "stop": [],
        "stop_token_ids": [],
        "allowed_token_ids": [],
        "bad_words": [],
        "min_tokens": 0,
        "include_stop_str_in_output": False,
        "skip_special_tokens": True,
        "logit_bias": {},
        "ignore_eos": False,
        "n": 1,
    }
    assert SamplingParams().update(choose(tmp_path)).to_dict() == choose(tmp_path)


def test_the_models_own_then_the_persons(tmp_path: Path) -> None:
    own = {
        "max_new_tokens": 300,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 20,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
    }
    edit_json(tmp_path / "generation_config.json", do_sample=True, eos_token_id=2, **own)
    chosen = choose(tmp_path, temperature=0.2, seed=7)
    assert chosen["max_tokens"] == 300
    assert (chosen["temperature"], chosen["seed"]) == (0.2, 7)
    assert [chosen[name] for name in ("top_p", "top_k", "min_p", "repetition_penalty")] == [
        0.9, 20, 0.05, 1.1,
    ]  # fmt: skip


def test_a_model_that_does_not_sample_is_greedy(tmp_path: Path) -> None:
    edit_json(tmp_path / "generation_config.json", do_sample=False, temperature=0.7)
    assert choose(tmp_path)["temperature"] == 0.0
    assert choose(tmp_path, temperature=0.5)["temperature"] == 0.5


@pytest.mark.parametrize(
    ("key", "value", "name", "chosen"),
    [
        ("temperature", 5.0, "temperature", 0.1),
        ("temperature", "0.5", "temperature", 0.1),
        ("top_p", 0, "top_p", 1.0),
        ("top_k", -1, "top_k", 0),
        ("top_k", 50.0, "top_k", 0),
        ("min_p", 2, "min_p", 0.0),
        ("repetition_penalty", True, "repetition_penalty", 1.0),
        ("max_new_tokens", 0, "max_tokens", 1000),
    ],
)
def test_what_is_out_of_bounds_is_left_out(
    tmp_path: Path, key: str, value: Any, name: str, chosen: float
) -> None:
    edit_json(tmp_path / "generation_config.json", **{key: value})
    assert choose(tmp_path)[name] == chosen


@pytest.mark.parametrize(("wanted", "chosen"), [(9000, 256), (256, 256), (100, 100), (None, None)])
def test_the_context_caps_the_answer(
    tmp_path: Path, wanted: int | None, chosen: int | None
) -> None:
    assert choose(tmp_path, 256, max_tokens=wanted)["max_tokens"] == chosen


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(BrokenSource, match=r"generation_config\.json must be readable JSON"):
        choose(tmp_path)
