"""Rows in columns are used only for models that give the same logits with them."""

from pathlib import Path

import pytest

from mooring.engines.transformers.loader import LoadedModel, load_model
from mooring.engines.transformers.trial import try_columns
from mooring.settings import Dtype, EngineSettings
from tests import models
from tests.engines.conftest import SnapshotOf
from tests.engines.transformers.legacy import legacy_remote_code
from tests.engines.transformers.test_families import FAMILIES


def load(snapshot: Path, *, dtype: Dtype = "float32", trust: bool = False) -> LoadedModel:
    settings = EngineSettings(device="cpu", dtype=dtype)
    return load_model(snapshot, settings, dtype="auto", trust_remote_code=trust)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "mamba"])
def test_right_for_models_with_keys_and_values(
    snapshot_of: SnapshotOf, family: str, dtype: Dtype
) -> None:
    loaded = load(snapshot_of(family), dtype=dtype, trust=family == "remote_code")
    cache = try_columns(loaded)
    assert cache is not None
    assert len(cache.layers) == 2


def test_not_tried_on_a_state_space(snapshot_of: SnapshotOf) -> None:
    assert try_columns(load(snapshot_of("mamba"))) is None


@pytest.mark.parametrize("keeps_cache", [True, False])
def test_not_tried_with_an_old_cache_or_none(tmp_path: Path, keeps_cache: bool) -> None:
    snapshot = legacy_remote_code(tmp_path / "legacy", keeps_cache=keeps_cache)
    assert try_columns(load(snapshot, trust=True)) is None


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
    assert try_columns(load(snapshot, trust=True)) is None
