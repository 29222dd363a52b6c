"""Engines serve only after agreeing with golden tokens, and are asked once."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import mooring
from mooring.api.package import PackageOptions
from mooring.engines.transformers import TransformersEngine
from mooring.errors import EngineDisagrees, MissingDependency
from mooring.loading import choice, start, verdicts
from mooring.loading.bundle import Bundle, open_bundle
from mooring.loading.start import engine_of, start_service
from mooring.settings import EngineSettings
from tests.conftest import Store
from tests.engines.driving import engine_threads
from tests.models import tiny_llama

CPU = EngineSettings(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def bundle(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    source = tiny_llama(tmp_path_factory.mktemp("source") / "llama")
    packaged = mooring.package(
        mooring.ModelSpec(source=str(source), prompt="plain"),
        name="golden",
        experiment=store.experiment,
        tracking_uri=store.tracking_uri,
        options=PackageOptions(golden=True),
    )
    return open_bundle(packaged.uri)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(verdicts, "VERDICTS_FOLDER", tmp_path / "checks")
    yield tmp_path / "checks"
    assert engine_threads() == []


def steps_to_agree(bundle: Bundle, settings: EngineSettings = CPU) -> int:
    """Start, compare, and return the steps that it took."""
    engine = engine_of(bundle, settings)
    try:
        capabilities = engine.start()
        verdicts.require_agreement(engine, capabilities, bundle)
        return engine.load().steps
    finally:
        engine.close()


def wrong(bundle: Bundle) -> Bundle:
    """Return the bundle with golden tokens that no engine gives."""
    golden = bundle.manifest.golden
    assert golden is not None
    first = golden.answers[0]
    steps = tuple(
        replace(step, top=tuple((token - 1, score) for token, score in step.top))
        for step in first.steps
    )
    changed = replace(golden, answers=(replace(first, steps=steps), *golden.answers[1:]))
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"golden": changed}))


def test_the_manifest_keeps_them(bundle: Bundle) -> None:
    golden = bundle.manifest.golden
    assert golden is not None
    assert golden.precision == "float32"
    assert [len(answer.steps) for answer in golden.answers] == [16] * 4
    assert max(len(answer.prompt_ids) for answer in golden.answers) == 96


def test_asks_once_and_again_after_a_change_or_damage(bundle: Bundle, folder: Path) -> None:
    assert steps_to_agree(bundle) > 0
    assert steps_to_agree(bundle) == 0
    assert steps_to_agree(bundle, replace(CPU, context_length=64)) > 0
    assert steps_to_agree(bundle, replace(CPU, dtype="bfloat16")) > 0
    for verdict in folder.iterdir():
        assert verdict.suffix == ".json"
        verdict.write_text("{")
    assert steps_to_agree(bundle) > 0
    assert steps_to_agree(bundle) == 0


def test_a_new_mooring_asks_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps_to_agree(bundle) > 0
    monkeypatch.setattr(mooring, "__version__", "999")
    assert steps_to_agree(bundle) > 0


def test_without_a_place_to_remember_it_still_serves(bundle: Bundle, folder: Path) -> None:
    folder.write_text("a file is in the way")
    assert steps_to_agree(bundle) > 0
    assert steps_to_agree(bundle) > 0


def test_refuses_an_engine_that_disagrees_and_frees_it(bundle: Bundle, folder: Path) -> None:
    with pytest.raises(EngineDisagrees, match=r"position 0, token \d+ was expected\. Given: \d+"):
        start_service(wrong(bundle), CPU)
    assert not folder.exists()


def test_without_golden_tokens_nothing_is_compared(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    plain = replace(bundle, manifest=bundle.manifest.model_copy(update={"golden": None}))
    with caplog.at_level(logging.INFO):
        assert steps_to_agree(plain) == 0
    assert "packaged without golden tokens" in caplog.text


def test_auto_passes_over_what_cannot_start_or_disagrees(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[str] = []

    def make(_: Bundle, settings: EngineSettings, *__: object) -> TransformersEngine:
        tried.append(settings.name)
        if settings.name == "echo":
            raise MissingDependency("Not here.")
        engine = engine_of(bundle, CPU)
        assert isinstance(engine, TransformersEngine)
        return engine

    echo, real = replace(CPU, name="echo"), replace(CPU, name="transformers")
    monkeypatch.setattr(start, "candidates", lambda *_: [echo, real])
    monkeypatch.setattr(start, "engine_of", make)
    start_service(bundle, EngineSettings()).close()
    assert tried == ["echo", "transformers"]
    assert "The echo engine is passed over: Not here." in caplog.text


def test_a_named_engine_is_the_only_candidate(bundle: Bundle) -> None:
    assert choice.candidates(bundle, CPU)[-1].name == "transformers"
    named = replace(CPU, name="echo")
    assert choice.candidates(bundle, named) == [named]
