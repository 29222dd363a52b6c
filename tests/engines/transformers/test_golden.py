"""Golden answers are what `generate` says, and tell wrong engines from those that round."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from mooring.engines.agreement import Agreement, compare
from mooring.engines.transformers import TransformersEngine, golden
from mooring.engines.transformers.golden import KEPT, STEPS, make_golden
from mooring.generation import Golden
from mooring.settings import EngineSettings
from tests.engines.conftest import SnapshotOf
from tests.engines.transformers.legacy import legacy_remote_code
from tests.models import CONTEXT_LENGTH, END

PROMPTS = [list(range(5, 5 + length)) for length in (1, 9, 60, 96)]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])  # where ties are common
@pytest.mark.parametrize("family", ["llama", "mpt", "mamba", "gemma3", "mixtral"])
def test_equals_generate(family: str, precision: str, snapshot_of: SnapshotOf) -> None:
    made = make_golden(snapshot_of(family), PROMPTS, precision=precision, trust_remote_code=False)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        snapshot_of(family), dtype=getattr(torch, precision)
    )
    assert made.precision == precision
    assert made.transformers == transformers.__version__
    for prompt, answer in zip(PROMPTS, made.answers, strict=True):
        ids = model.generate(
            torch.tensor([prompt]), max_new_tokens=STEPS, min_new_tokens=STEPS, do_sample=False,
            use_cache=True, eos_token_id=None,
        )[0, len(prompt) :]  # fmt: skip
        assert answer.prompt_ids == tuple(prompt)
        assert answer.token_ids == tuple(ids.tolist())
        assert all(len(step.top) == KEPT and step.spread > 0 for step in answer.steps)
        assert all(list(s.top) == sorted(s.top, key=lambda t: -t[1]) for s in answer.steps)


def test_reads_everything_again_where_code_is_too_old_to_generate(tmp_path: Path) -> None:
    snapshot = legacy_remote_code(tmp_path / "legacy", keeps_cache=True)
    made = make_golden(snapshot, [[9, 8, 7]], precision="float32", trust_remote_code=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(snapshot, trust_remote_code=True)
    ids = [9, 8, 7]
    with torch.inference_mode():
        for _ in range(STEPS):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    assert list(made.answers[0].token_ids) == ids[3:]


def test_stops_before_logits_that_are_no_numbers() -> None:
    rows = [torch.tensor([1.0, 2.0, -3e38, float("-inf")]), torch.full((4,), float("nan"))]
    step = golden._step(1, rows[0], 4)
    assert [token for token, _ in step.top] == [1, 0]
    assert step.spread == pytest.approx(0.5)
    assert not golden._step(1, rows[1], 4).top


def test_of_equal_tokens_the_one_that_was_taken_counts(
    tmp_path: Path, snapshot_of: SnapshotOf
) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(snapshot_of("llama"))
    head = model.lm_head.weight.data
    head[128:256] = head[:128]
    model.save_pretrained(tmp_path)
    made = make_golden(tmp_path, PROMPTS, precision="float32", trust_remote_code=False)
    for prompt, answer in zip(PROMPTS, made.answers, strict=True):
        ids = model.generate(
            torch.tensor([prompt]), max_new_tokens=STEPS, do_sample=False, eos_token_id=None
        )[0, len(prompt) :].tolist()
        assert list(answer.token_ids) == ids
        twins = [(step, (step.token_id + 128) % 256) for step in answer.steps]
        assert all(step.gap(twin) == 0.0 for step, twin in twins if step.token_id < 256)


Compare = Callable[[Path, str, str | None], Agreement]


@pytest.fixture
def comparing() -> Callable[[Golden], Compare]:
    def with_golden(made: Golden) -> Compare:
        def run(snapshot: Path, dtype: str, claimed: str | None) -> Agreement:
            engine = TransformersEngine(
                snapshot,
                EngineSettings(device="cpu", dtype=dtype),  # type: ignore[arg-type]
                context_length=CONTEXT_LENGTH,
                end_token_ids=(END,),
            )
            capabilities = engine.start()
            try:
                return compare(engine, replace(capabilities, precision=claimed or dtype), made)
            finally:
                engine.close()

        return run

    return with_golden


@pytest.mark.parametrize(
    ("family", "wrong"),
    [
        ("llama", {"rope_parameters": {"rope_theta": 100.0, "rope_type": "default"}}),
        ("mpt", {"n_heads": 2}),
        ("qwen2", {"rms_norm_eps": 0.1}),
    ],
)
def test_tells_a_wrong_engine_from_one_that_rounds(
    family: str,
    wrong: dict[str, Any],
    snapshot_of: SnapshotOf,
    tmp_path: Path,
    comparing: Callable[[Golden], Compare],
) -> None:
    run = comparing(
        make_golden(snapshot_of(family), PROMPTS, precision="float32", trust_remote_code=False)
    )
    other = shutil.copytree(snapshot_of(family), tmp_path / "other")
    config = json.loads((other / "config.json").read_text()) | wrong
    (other / "config.json").write_text(json.dumps(config))
    assert run(snapshot_of(family), "float32", None) == Agreement(64, 0.002, ())
    assert run(snapshot_of(family), "bfloat16", None).agrees
    for claimed in ("float32", "int8", "int4"):
        assert not run(other, "float32", claimed).agrees
