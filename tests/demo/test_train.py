"""Training gives the same bits twice, and a model that is not exact is never installed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mooring.demo import check
from mooring.demo.check import margins
from mooring.demo.train import Recipe, build, main, save_snapshot, train_model

SMALL = Recipe(steps=10, width=32, layers=1, heads=2, vocab_size=400, tokens_per_batch=1024)
TINY = replace(SMALL, steps=1)


def test_the_same_recipe_gives_the_same_bits() -> None:
    first, first_tokenizer = train_model(SMALL)
    second, second_tokenizer = train_model(SMALL)
    weights, again = first.state_dict(), second.state_dict()
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert first_tokenizer.get_vocab() == second_tokenizer.get_vocab()


def test_training_leaves_torch_settings_and_random_state_alone() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train_model(replace(TINY, threads=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_saved_weights_are_the_trained_ones_rounded(tmp_path: Path) -> None:
    model, tokenizer = train_model(TINY)
    expected = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    save_snapshot(model, tokenizer, tmp_path / "model")
    loaded = type(model).from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder that already holds a model of an earlier training."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()
    return folder


@pytest.fixture
def few_expectations(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"dialogues": check.expected_texts()["dialogues"][:3]}
    monkeypatch.setattr(check, "expected_texts", lambda: texts)


@pytest.mark.usefixtures("few_expectations")
def test_an_inexact_model_does_not_replace_the_old_one(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(output), "--steps", "1"]) == 1
    assert [path.name for path in output.iterdir()] == ["old"]
    assert (output.parent / "model.partial" / "model.safetensors").is_file()
    printed = capsys.readouterr()
    assert "0 of 3" in printed.out
    assert "Error: some answers are not exact" in printed.err


def test_a_model_that_passes_every_check_replaces_the_old_one(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "expected_texts", dict)
    steps: list[None] = []
    report = build(TINY, output, lambda: steps.append(None))
    assert (report.exact, len(steps)) == (True, TINY.steps)
    assert {path.name for path in output.iterdir()} >= {"config.json", "model.safetensors"}
    assert [path.name for path in output.parent.iterdir()] == ["model"]


@pytest.mark.usefixtures("few_expectations")
def test_the_report_is_printed_as_json(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", str(output), "--steps", "1", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["steps"], report["parameters"]) == (1, 1_437_312)
    assert [(each["dtype"], each["exact"], each["total"]) for each in report["checks"]] == [
        ("float32", 0, 3),
        ("bfloat16", 0, 3),
    ]


def test_a_margin_is_the_lead_over_the_best_other_token() -> None:
    logits = torch.tensor([[5.0, 2.0, 3.0], [1.0, 4.0, 9.0]])
    assert margins(logits, torch.tensor([0, 1])).tolist() == [2.0, -5.0]
