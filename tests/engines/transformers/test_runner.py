"""How sequences run side by side is chosen once per model."""

from typing import Any

import pytest
import transformers

from mooring.engines.transformers.loader import load_model
from mooring.engines.transformers.runner import Runner
from mooring.settings import EngineSettings
from tests.models import CONTEXT_LENGTH, tiny_llama


@pytest.mark.parametrize(
    ("rope", "context_length", "message"),
    [
        ({"rope_type": "default"}, 256, "Continuous batching: the cache"),
        ({"rope_type": "linear", "factor": 2.0}, 256, "Continuous batching: the cache"),
        ({"rope_type": "dynamic", "factor": 2.0}, 256, "Continuous batching: the cache"),
        ({"rope_type": "dynamic", "factor": 2.0}, 257, "No continuous batching with this model"),
    ],
)
def test_rotary_frequencies_that_depend_on_batch_mates_run_in_groups(
    tmp_path: Any, caplog: pytest.LogCaptureFixture, rope: Any, context_length: int, message: str
) -> None:
    assert transformers.LlamaConfig().max_position_embeddings > CONTEXT_LENGTH == 256
    caplog.set_level("INFO", "mooring.engines")
    rope = {"rope_theta": 10000.0, **rope}
    settings = EngineSettings(device="cpu", dtype="float32")
    snapshot = tiny_llama(tmp_path / "llama", rope_parameters=rope)
    loaded = load_model(snapshot, settings, dtype="auto", trust_remote_code=False)
    Runner(loaded, (), settings, context_length)
    assert message in caplog.records[-1].message
