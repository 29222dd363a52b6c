"""Padding is used only for models that give the same logits with it."""

from pathlib import Path

import pytest

from mooring.engines.transformers.loader import load_model
from mooring.engines.transformers.padding import padding_is_right
from mooring.settings import Dtype, EngineSettings
from tests import models
from tests.engines.conftest import SnapshotOf
from tests.engines.transformers.legacy import legacy_remote_code


def is_right(snapshot: Path, *, dtype: Dtype = "float32", trust: bool = False) -> bool:
    settings = EngineSettings(device="cpu", dtype=dtype)
    return padding_is_right(load_model(snapshot, settings, dtype="auto", trust_remote_code=trust))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "family", ["llama", "mistral", "gpt2", "gpt_neox", "mpt", "bloom", "opt", "remote_code"]
)
def test_right_for_models_that_mask_and_place(
    snapshot_of: SnapshotOf, family: str, dtype: Dtype
) -> None:
    assert is_right(snapshot_of(family), dtype=dtype, trust=family == "remote_code")


def test_not_tried_on_a_state_space(snapshot_of: SnapshotOf) -> None:
    assert not is_right(snapshot_of("mamba"))


def test_not_tried_without_position_ids(tmp_path: Path) -> None:
    snapshot = legacy_remote_code(tmp_path / "legacy", keeps_cache=True)
    assert not is_right(snapshot, trust=True)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("if position_ids is None:", "if True:"),
        ("if attention_mask is None:", "if True:"),
        ("rows, length = input_ids.shape", "[rows], length = [1], input_ids.view(1, -1).shape[1]"),
    ],
    ids=["ignores positions", "ignores the mask", "takes one row only"],
)  # fmt: skip
def test_found_wrong_by_trying(tmp_path: Path, good: str, bad: str) -> None:
    snapshot = models.tiny_remote_code(tmp_path / "wrong")
    code = (snapshot / "modeling_harbor.py").read_text()
    assert good in code
    (snapshot / "modeling_harbor.py").write_text(code.replace(good, bad, 1))
    assert not is_right(snapshot, trust=True)
