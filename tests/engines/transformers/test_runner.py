"""How sequences run side by side is chosen once per model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mooring.engines.transformers.loader import LoadedModel, load_model
from mooring.engines.transformers.runner import Runner
from mooring.errors import InvalidParameter
from mooring.settings import EngineSettings
from tests.engines.conftest import SnapshotOf
from tests.models import tiny_llama

SETTINGS = EngineSettings(device="cpu", dtype="float32")
CONTINUOUS, GROUPS = "Continuous batching: the cache", "No continuous batching with this model"
LONG = {
    "rope_type": "longrope",
    "factor": 4.0,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("rope", "context_length", "message"),
    [
        ({"rope_type": "default"}, 256, CONTINUOUS),
        ({"rope_type": "linear", "factor": 2.0}, 256, CONTINUOUS),
        ({"rope_type": "dynamic", "factor": 2.0}, 256, CONTINUOUS),
        ({"rope_type": "dynamic", "factor": 2.0}, 257, GROUPS),
        (LONG, 64, CONTINUOUS),
        (LONG, 65, GROUPS),
    ],
)
def test_rotary_frequencies_that_depend_on_batch_mates_run_in_groups(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rope: Any, context_length: int, message: str
) -> None:
    caplog.set_level("INFO", "mooring.engines")
    snapshot = tiny_llama(tmp_path / "llama", rope_parameters={"rope_theta": 10000.0, **rope})
    Runner(load(snapshot), (), SETTINGS, context_length)
    assert message in caplog.records[-1].message


def test_groups_do_not_pretend_to_keep_a_bound(tmp_path: Path) -> None:
    snapshot = tiny_llama(tmp_path / "llama", rope_parameters={"rope_theta": 10000.0, **LONG})
    settings = replace(SETTINGS, cache_bytes=10**6)
    Runner(load(snapshot), (), settings, 64)
    with pytest.raises(InvalidParameter, match=r"runs in groups\. Given: 1000000") as raised:
        Runner(load(snapshot), (), settings, 65)
    assert raised.value.param == "cache_bytes"


@pytest.mark.parametrize(("context_length", "message"), [(64, CONTINUOUS), (65, GROUPS)])
def test_looks_at_the_frequencies_of_every_kind_of_layer(
    snapshot_of: SnapshotOf,
    caplog: pytest.LogCaptureFixture,
    context_length: int,
    message: str,
) -> None:
    caplog.set_level("INFO", "mooring.engines")
    loaded = load(snapshot_of("gemma3"))
    loaded.model.config.rope_parameters = {
        **loaded.model.config.rope_parameters,
        "full_attention": {"rope_theta": 10000.0, **LONG},
    }
    Runner(loaded, (), SETTINGS, context_length)
    assert message in caplog.records[-1].message


def load(snapshot: Path) -> LoadedModel:
    return load_model(snapshot, SETTINGS, dtype="auto", trust_remote_code=False)
