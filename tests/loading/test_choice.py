"""Which engine is tried first, and which conversion it runs."""

import pytest

from mooring.errors import InvalidInput, InvalidParameter
from mooring.loading import choice
from mooring.loading.choice import conversion_to_run
from mooring.settings import EngineSettings
from mooring.spec.facts import ModelFacts
from mooring.spec.manifest import Conversion, Manifest, Origin, WeightFormat
from mooring.spec.prompt import PromptFormat

FACTS = ModelFacts(
    architecture="LlamaForCausalLM",
    model_type="llama",
    parameters=10,
    weight_bytes=20,
    stored_dtypes={"BF16": 10},
    layers=1,
    vocabulary_size=5,
    context_length=8,
    cache_values_per_token=4,
    own_code=False,
    end_token_ids=(2,),
)
CPU = EngineSettings(device="cpu")


def manifest(*weights: WeightFormat) -> Manifest:
    return Manifest(
        mooring_version="0.1.0",
        origin=Origin(kind="folder", name="x"),
        facts=FACTS,
        context_length=8,
        prompt=PromptFormat(kind="plain"),
        defaults={},
        dtype="auto",
        trust_remote_code=False,
        requirements=(),
        files=(),
        conversions=tuple(Conversion(weights=w, paged=True, files=(), tools={}) for w in weights),
    )


def chosen(settings: EngineSettings, *weights: WeightFormat) -> str | None:
    conversion = conversion_to_run(manifest(*weights), settings)
    return None if conversion is None else conversion.weights


def test_a_cpu_takes_the_conversion_first_and_int8_before_others() -> None:
    assert chosen(CPU) is None
    assert chosen(CPU, "fp16", "int4", "int8") == "int8"
    assert chosen(CPU, "fp16", "int4") == "int4"
    assert chosen(CPU, "fp16") == "fp16"
    assert choice._names(manifest("int8"), CPU) == ["openvino", "transformers"]
    assert choice._names(manifest(), CPU) == ["transformers"]


def test_a_gpu_or_a_named_engine_takes_the_snapshot() -> None:
    assert chosen(EngineSettings(device="cuda"), "int8") is None
    assert chosen(EngineSettings("transformers", "cpu"), "int8") is None


def test_without_the_library_the_snapshot_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "has_openvino", lambda: False)
    assert chosen(CPU, "int8") is None


def test_a_named_conversion_is_the_only_candidate() -> None:
    named = EngineSettings(device="cpu", conversion="int4")
    assert chosen(named, "int8", "int4") == "int4"
    assert choice._names(manifest("int8", "int4"), named) == ["openvino"]


def test_what_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match=r"holds int8\. Given: int4\. .*openvino:int4"):
        chosen(EngineSettings(conversion="int4"), "int8")
    with pytest.raises(InvalidInput, match=r"holds no conversion\. Given: int8"):
        chosen(EngineSettings("openvino", conversion="int8"))


def test_a_conversion_for_another_engine_is_refused() -> None:
    with pytest.raises(InvalidParameter, match=r"openvino engine\. Given: int8 and the trans"):
        chosen(EngineSettings("transformers", conversion="int8"), "int8")
