"""What the well-known hand-written deployment gets wrong must hold here, one test a rule.

Rules that other tests already show in full (every row answered, bytes of the prompt, bounds of
parameters) are not repeated.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mooring.api.load import load
from mooring.api.package import PackagedModel
from mooring.errors import InvalidParameter
from mooring.generation import Instruction
from mooring.loading.bundle import open_bundle
from mooring.loading.loaded import LoadedModel
from tests.conftest import Store
from tests.doors.answers import ANSWERS, EXPECTED, FIRST, QUESTIONS

WHOLE = ANSWERS[FIRST]


@pytest.fixture(scope="module")
def model(demo: PackagedModel) -> Iterator[LoadedModel]:
    with load(demo.uri) as loaded:
        yield loaded


def test_every_sampling_parameter_is_in_the_signature_with_this_models_default(
    demo: PackagedModel,
) -> None:
    schema = mlflow.models.get_model_info(demo.uri).signature.params
    defaults = {spec.name: spec.default for spec in schema}
    assert defaults == {
        "max_tokens": 1000, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "seed": None, "stop": [], "stop_token_ids": [], "allowed_token_ids": [], "bad_words": [],
        "min_tokens": 0, "include_stop_str_in_output": False,
        "skip_special_tokens": True, "logit_bias": "", "ignore_eos": False, "n": 1,
    }  # fmt: skip


def test_temperature_zero_is_greedy(model: LoadedModel) -> None:
    assert model.predict(FIRST, {"temperature": 0}) == [WHOLE]
    assert model.predict(FIRST, {"temperature": 1e-45}) == [WHOLE]


def test_max_tokens_below_one_is_refused_and_above_the_context_too(model: LoadedModel) -> None:
    for value in (0, -1, 1025):
        with pytest.raises(InvalidParameter, match="`max_tokens` must be") as caught:
            model.predict(FIRST, {"max_tokens": value})
        assert f"Given: {value}." in caught.value.message


def test_max_tokens_is_capped_by_the_context(model: LoadedModel) -> None:
    completion = model.complete([Instruction(FIRST)], {"max_tokens": 1024, "ignore_eos": True})
    prompt = model.render(Instruction(FIRST))
    assert prompt is not None
    assert completion[0][0].reason == "length"
    assert 900 < completion[0][0].tokens < 1024


def test_every_answer_ends_with_its_reason(model: LoadedModel) -> None:
    whole, cut = (
        model.complete([Instruction(FIRST)]),
        model.complete([Instruction(FIRST)], {"max_tokens": 3}),
    )
    assert (whole[0][0].text, whole[0][0].reason) == (WHOLE, "stop")
    assert (cut[0][0].reason, cut[0][0].tokens) == ("length", 3)


def test_a_batch_of_different_lengths_answers_as_one_by_one(model: LoadedModel) -> None:
    together = model.predict(QUESTIONS)
    assert together == [model.predict(question)[0] for question in QUESTIONS] == EXPECTED


def test_the_answer_never_repeats_or_loses_part_of_the_prompt(model: LoadedModel) -> None:
    padded = f"  {FIRST}  "
    rendered = model.render(Instruction(padded))
    assert rendered is not None
    assert padded in rendered
    assert not model.predict(padded, {"max_tokens": 5})[0].startswith(padded.strip())


def test_parallel_callers_share_batches_and_keep_their_answers(model: LoadedModel) -> None:
    service = model._running.service
    before = service.load.steps
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda q: model.predict(q)[0], QUESTIONS * 4))
    steps = service.load.steps - before
    assert answers == EXPECTED * 4
    one_by_one = sum(c[0].tokens for c in model.complete([Instruction(q) for q in QUESTIONS])) * 4
    assert steps < one_by_one / 2


def test_requirements_can_be_installed_anywhere(demo: PackagedModel, store: Store) -> None:
    bundle = open_bundle(demo.uri, tracking_uri=store.tracking_uri)
    lines = (bundle.folder / "requirements.txt").read_text().splitlines()
    names = {line.partition("==")[0] for line in lines}
    assert all("==" in line and "+" not in line for line in lines)
    assert {"mlflow", "torch", "transformers", "safetensors"} <= names
    assert not names & {"einops", "sentencepiece", "mooring"}


def test_packaging_and_loading_warn_of_nothing_and_leave_no_pickle(tmp_path: Path) -> None:
    script = f"""
import mlflow, mooring, json
uri = "sqlite:///{tmp_path}/mlflow.db"
mlflow.set_tracking_uri(uri)
mlflow.create_experiment("quiet", artifact_location="{tmp_path.as_uri()}/artifacts")
packaged = mooring.package(mooring.ModelSpec(source="demo"), name="quiet", experiment="quiet")
model = mlflow.pyfunc.load_model(packaged.uri)
print(json.dumps(model.predict(["{FIRST}"], params={{"max_tokens": 4, "temperature": 0.5}})))
"""
    ran = subprocess.run(
        [sys.executable, "-W", "default", "-c", script], capture_output=True, text=True, check=True
    )
    assert len(json.loads(ran.stdout.splitlines()[-1])["candidates"]) == 1
    said = ran.stderr.lower()
    for word in ("pickle", "torch_dtype", "type hint", "artifact_path", "mismatch", "signature"):
        assert word not in said, ran.stderr
    assert not list(tmp_path.rglob("*.pkl"))


def test_the_device_is_planned_and_not_written_into_code(model: LoadedModel) -> None:
    capabilities = model._running.service.capabilities
    assert capabilities.device == "cpu"
    assert capabilities.precision in ("float32", "bfloat16")


def test_unknown_parameters_are_refused_and_not_ignored(model: LoadedModel) -> None:
    with pytest.raises(InvalidParameter, match="Unknown parameter `stream`"):
        model.predict(FIRST, {"stream": True})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_answers_do_not_depend_on_the_precision(demo: PackagedModel, dtype: Any) -> None:
    from mooring.settings import EngineSettings

    with load(demo.uri, engine=EngineSettings(dtype=dtype)) as model:
        assert model.predict(QUESTIONS) == EXPECTED
