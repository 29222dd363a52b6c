"""A model with a conversion, through every door: the openvino engine, and transformers' tokens."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import httpx
import mlflow
import pytest
import torch
import transformers

import mooring
from mooring.api import conversion as converting
from mooring.api import package as packaging
from mooring.api.package import PackagedModel, PackageOptions
from mooring.errors import ConversionFailed, CorruptArtifact, MissingDependency
from mooring.loading.bundle import Bundle, open_bundle
from mooring.loading.start import start_engine
from mooring.loading.tokenizer import TransformersTokenizer
from mooring.machine import read_machine
from mooring.packaging.conversion import Converter
from mooring.settings import EngineSettings
from tests.conftest import Store
from tests.doors.answers import ANSWERS, FIRST
from tests.engines.driving import ask
from tests.models import tiny_llama, tiny_mpt, tiny_remote_code
from tests.processes import BIN, free_port, server

DATA = Path(__file__).parent.parent / "data"
PROMPTS = ["The ship", "A moored ship lies still while the water rises and falls.", "x"]
FAMILIES = {"llama": tiny_llama, "mpt": tiny_mpt}


def package(
    family: str,
    store: Store,
    folder: Path,
    *,
    converted: str | None = None,
    endless: bool = False,
) -> PackagedModel:
    """Package a tiny model with its conversion from `tests/data`, all but the converter real.

    An endless one has no end token.
    """
    source = FAMILIES[family](folder / family)
    if endless:
        drop_end_tokens(source)

    def export(self: Converter, snapshot: Path, target: Path, **_: object) -> dict[str, str]:
        with ZipFile(DATA / f"{converted or family}_openvino.zip") as archive:
            archive.extractall(target)
        if endless:
            drop_end_tokens(target)
        return {"optimum-intel": "2.2.0"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Converter, "export", export)
        patch.setattr(converting, "converter_packages", lambda _: folder)
        patch.setattr(converting, "WORK_FOLDER", folder / "work")
        packaged = mooring.package(
            mooring.ModelSpec(source=str(source), prompt="plain"),
            name=f"{family}-endless" if endless else f"{family}-converted",
            experiment=store.experiment,
            tracking_uri=store.tracking_uri,
            options=PackageOptions(optimize=("openvino:fp16",)),
        )
    assert list((folder / "work").iterdir()) == []
    return packaged


def drop_end_tokens(folder: Path) -> None:
    for path in folder.glob("*config.json"):  # the model's, of generation, and the tokenizer's
        values = json.loads(path.read_bytes())
        ends = {name: values.pop(name) for name in ("eos_token_id", "eos_token") if name in values}
        assert ends
        path.write_text(json.dumps(values))


@pytest.fixture(scope="module")
def llama(store: Store, tmp_path_factory: pytest.TempPathFactory) -> PackagedModel:
    return package("llama", store, tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def bundle(llama: PackagedModel) -> Bundle:
    return open_bundle(llama.uri)


@pytest.fixture(scope="module")
def expected(bundle: Bundle) -> list[list[int]]:
    """Return the greedy tokens of `generate`, sixteen for each prompt."""
    return generated(bundle)


def prompt_ids(bundle: Bundle) -> list[list[int]]:
    tokenizer = TransformersTokenizer(bundle.snapshot)
    return [tokenizer.encode(prompt, add_special_tokens=True) for prompt in PROMPTS]


def generated(bundle: Bundle) -> list[list[int]]:
    model = transformers.AutoModelForCausalLM.from_pretrained(bundle.snapshot, dtype=torch.float32)
    return [
        model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=16,
            eos_token_id=-1, do_sample=False,
        )[0, len(ids) :].tolist()
        for ids in prompt_ids(bundle)
    ]  # fmt: skip


def texts(bundle: Bundle, tokens: Sequence[Sequence[int]]) -> list[str]:
    tokenizer = TransformersTokenizer(bundle.snapshot)
    return [tokenizer.decode(ids) for ids in tokens]


def test_the_artifact_holds_it_and_says_so(bundle: Bundle) -> None:
    (conversion,) = bundle.manifest.conversions
    assert (conversion.name, conversion.paged) == ("openvino:fp16", True)
    assert conversion.tools == {"optimum-intel": "2.2.0"}
    there = {path.name for path in bundle.converted(conversion).iterdir()}
    assert there == {file.path for file in conversion.files}
    requirements = (bundle.folder / "requirements.txt").read_text()
    assert "openvino-genai==2026" in requirements
    card = (bundle.folder / "README.md").read_text()
    assert "| conversions | openvino:fp16 |" in card
    assert mlflow.models.Model.load(str(bundle.folder)).model_size_bytes == bundle.manifest.size


def test_tokens_are_those_of_transformers(bundle: Bundle, expected: list[list[int]]) -> None:
    settings = EngineSettings(device="cpu", dtype="float32")
    engine, capabilities = start_engine(bundle, settings)
    try:
        answers = [ask(engine, ids, max_tokens=16, ignore_eos=True) for ids in prompt_ids(bundle)]
        assert [answer.wait().tokens for answer in answers] == expected
    finally:
        engine.close()
    assert capabilities.name == "openvino"
    assert capabilities.precision == "float16 weights in float32"
    assert capabilities.max_running == 32


def test_the_server_answers_with_it(
    llama: PackagedModel, bundle: Bundle, expected: list[list[int]]
) -> None:
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        BIN / "mooring", "serve", llama.uri, "--port", port, "--engine", "openvino",
        "--dtype", "float32",
    ]  # fmt: skip
    body = {"model": "llama-converted", "max_tokens": 16, "temperature": 0, "ignore_eos": True}
    with server(command, f"{address}/ready"), httpx.Client(base_url=address, timeout=60) as client:
        whole = [
            client.post("/v1/completions", json={**body, "prompt": prompt}).json()
            for prompt in PROMPTS
        ]
        with client.stream(
            "POST", "/v1/completions", json={**body, "prompt": PROMPTS[1], "stream": True}
        ) as stream:
            lines = [line.removeprefix("data: ") for line in stream.iter_lines() if line]
    assert [answer["choices"][0]["text"] for answer in whole] == texts(bundle, expected)
    pieces = [json.loads(line)["choices"][0]["text"] for line in lines[:-1]]
    assert "".join(pieces) == texts(bundle, expected)[1]


def test_mlflow_answers_with_it(
    llama: PackagedModel, bundle: Bundle, expected: list[list[int]]
) -> None:
    config = {"name": "openvino", "device": "cpu", "dtype": "float32", "conversion": "fp16"}
    loaded = mlflow.pyfunc.load_model(llama.uri, model_config=config)
    model = loaded.unwrap_python_model()._model
    try:
        params = {"temperature": 0, "max_tokens": 16, "ignore_eos": True}
        answer = loaded.predict({"prompt": PROMPTS}, params=params)
        assert answer == {"candidates": texts(bundle, expected)}
        assert model._running.service.capabilities.name == "openvino"
    finally:
        model.close()


def test_verify_info_and_predict_know_it(llama: PackagedModel, bundle: Bundle) -> None:
    def run(*arguments: str) -> str:
        command = [str(BIN / "mooring"), *arguments, "--json"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    verified = json.loads(run("verify", llama.uri, "--engine", "openvino"))
    assert (verified["engine"], verified["agrees"], verified["tolerance"]) == (
        "openvino",
        True,
        0.1,
    )
    assert json.loads(run("info", llama.uri))["conversions"][0]["weights"] == "fp16"
    assert json.loads(run("plan", llama.uri))["precision"] == "float16"
    answer = run("predict", llama.uri, "x", "--engine", "openvino", "-p", "max_tokens=1")
    assert len(json.loads(answer)["candidates"]) == 1


def test_a_model_whose_paged_attention_is_wrong_runs_alone(store: Store, tmp_path: Path) -> None:
    bundle = open_bundle(package("mpt", store, tmp_path).uri)
    assert not bundle.manifest.conversions[0].paged
    engine, capabilities = start_engine(bundle, EngineSettings("openvino", dtype="float32"))
    try:
        answer = ask(engine, prompt_ids(bundle)[1], max_tokens=16, ignore_eos=True)
        assert answer.wait().tokens == generated(bundle)[1]
    finally:
        engine.close()
    assert capabilities.max_running == 1


@pytest.mark.parametrize("family", ["llama", "mpt"])
def test_a_model_without_an_end_token_is_converted_and_served(
    family: str, store: Store, tmp_path: Path
) -> None:
    packaged = package(family, store, tmp_path, endless=True)
    bundle = open_bundle(packaged.uri)
    assert bundle.manifest.facts.end_token_ids == ()
    assert bundle.manifest.conversions[0].paged is (family == "llama")
    with mooring.load(packaged.uri, engine=EngineSettings("openvino", dtype="float32")) as model:
        params = {"temperature": 0, "max_tokens": 16}
        (whole,) = texts(bundle, generated(bundle)[1:2])
        assert model.predict([PROMPTS[1]], params) == [whole]
        assert model.predict([PROMPTS[1]], params | {"stop": [whole[5:8]]}) == [
            whole[: whole.index(whole[5:8])]
        ]


def test_a_conversion_with_other_tokens_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(
        ConversionFailed, match=r"must give this model's golden tokens\. Given: \d+"
    ):
        package("llama", store, tmp_path, converted="mpt")
    assert list((tmp_path / "work").iterdir()) == []


def test_a_damaged_conversion_is_not_loaded(store: Store, tmp_path: Path) -> None:
    bundle = open_bundle(package("llama", store, tmp_path).uri)
    weights = bundle.converted(bundle.manifest.conversions[0]) / "openvino_model.bin"
    changed = bytearray(weights.read_bytes())
    changed[100] ^= 1
    weights.unlink()  # it may be shared with its source
    weights.write_bytes(changed)
    with pytest.raises(CorruptArtifact, match=r"openvino_model\.bin: sha256 differs"):
        open_bundle(str(bundle.folder))


def test_without_the_library_nothing_is_converted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "has_openvino", lambda: False)
    with pytest.raises(MissingDependency, match="needs openvino-genai"):
        package("llama", store, tmp_path)


@pytest.mark.slow
def test_the_demo_model_converted_for_real_gives_its_answers(store: Store, tmp_path: Path) -> None:
    packaged = mooring.package(
        mooring.ModelSpec(source="demo"),
        name="demo-converted",
        experiment=store.experiment,
        tracking_uri=store.tracking_uri,
        options=PackageOptions(smoke_test=True, optimize=("openvino:int8", "openvino:int4")),
    )
    int8, int4 = open_bundle(packaged.uri).manifest.conversions
    assert (int8.paged, int4.paged) == (False, False)
    assert int4.size < int8.size
    with mooring.load(packaged.uri, engine=EngineSettings("openvino")) as model:
        assert model.predict([FIRST], {"temperature": 0}) == [ANSWERS[FIRST]]


@pytest.mark.slow
def test_golden_tokens_in_16_bits_judge_a_conversion(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_mpt(tmp_path / "mpt")
    half = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    half.save_pretrained(source)
    little = replace(read_machine(), memory_available=100_000)
    monkeypatch.setattr(packaging, "read_machine", lambda: little)
    packaged = mooring.package(
        mooring.ModelSpec(source=str(source), prompt="plain"),
        name="half-converted",
        experiment=store.experiment,
        tracking_uri=store.tracking_uri,
        options=PackageOptions(optimize=("openvino:int8",)),
    )
    manifest = open_bundle(packaged.uri).manifest
    assert manifest.golden is not None
    assert manifest.golden.precision == "bfloat16"
    assert not manifest.conversions[0].paged


@pytest.mark.slow
def test_a_model_that_the_converter_does_not_know_is_refused(store: Store, tmp_path: Path) -> None:
    source = tiny_remote_code(tmp_path / "harbor")
    spec = mooring.ModelSpec(source=str(source), prompt="plain", trust_remote_code=True)
    with pytest.raises(ConversionFailed, match="In its export the converter said: "):
        mooring.package(
            spec,
            name="harbor-converted",
            experiment=store.experiment,
            tracking_uri=store.tracking_uri,
            options=PackageOptions(optimize=("openvino:int8",)),
        )
    assert list(converting.WORK_FOLDER.iterdir()) == []
