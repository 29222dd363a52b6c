"""A model whose weights fit into memory only as they are stored, packaged with golden tokens."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

import mooring
from mooring.api import package as packaging
from mooring.api.package import PackagedModel, PackageOptions
from mooring.api.watching import Silent
from mooring.machine import read_machine
from tests.conftest import Store
from tests.models import tiny_mpt
from tests.processes import BIN


class Notes(Silent):
    """Keeps what was noted."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model in bfloat16: 33,024 parameters, 66,048 bytes."""
    source = tiny_mpt(tmp_path_factory.mktemp("half") / "mpt")
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    model.save_pretrained(source)
    return source


def package(source: Path, store: Store, memory: int) -> tuple[PackagedModel, list[str]]:
    """Package on a machine with so many bytes of free memory; return what was noted, too."""
    notes = Notes()
    with pytest.MonkeyPatch.context() as patch:
        machine = replace(read_machine(), memory_available=memory)
        patch.setattr(packaging, "read_machine", lambda: machine)
        packaged = mooring.package(
            mooring.ModelSpec(source=str(source), prompt="plain"),
            name=f"half-{memory}",
            experiment=store.experiment,
            tracking_uri=store.tracking_uri,
            options=PackageOptions(golden=True),
            watcher=notes,
        )
    return packaged, notes.lines


def run(*arguments: str) -> str:
    command = [str(BIN / "mooring"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_in_the_stored_precision_engines_are_held_to_what_that_rounds(
    half: Path, store: Store
) -> None:
    packaged, notes = package(half, store, 120_000)
    assert notes[-1] == (
        "Golden tokens in bfloat16: as stored, since in float32 its weights would take 132.1 kB, "
        "and 96.0 kB are free for them."
    )
    assert json.loads(run("info", packaged.uri, "--json"))["golden"]["precision"] == "bfloat16"
    said = f"64, by transformers {transformers.__version__} in bfloat16"
    assert said in run("info", packaged.uri)
    command = ("verify", packaged.uri, "--engine", "transformers", "--dtype", "bfloat16")
    found = json.loads(run(*command, "--json"))
    assert (found["agrees"], found["golden_precision"]) == (True, "bfloat16")
    assert found["tolerance"] == 0.1
    assert "64, by transformers in bfloat16" in run(*command)


def test_in_float32_where_that_fits(half: Path, store: Store) -> None:
    packaged, notes = package(half, store, 200_000)
    assert notes[-1] == (
        "Golden tokens in float32: its weights take 132.1 kB, and 160.0 kB are free for them."
    )
    assert json.loads(run("info", packaged.uri, "--json"))["golden"]["precision"] == "float32"


def test_where_nothing_fits_there_are_none(half: Path, store: Store) -> None:
    packaged, notes = package(half, store, 80_000)
    assert notes[-1].startswith("Without golden tokens: Golden tokens need 66.0 kB of memory")
    assert json.loads(run("info", packaged.uri, "--json"))["golden"] is None
