"""Packaging onto real file systems that are full, or become so, made for each test alone."""

import os
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.conftest import Store
from tests.faults.test_packaging_kills import logged_models
from tests.models import tiny_llama
from tests.processes import BIN

PACKAGE = "package {source} --name tiny --experiment small --weights copy --no-golden"

# What fills the disk once the first file is in place, after all checks.
FILL = """
import sys
from pathlib import Path
import mooring
from mooring.api.watching import Silent
from mooring.errors import NotEnoughSpace

class Filling(Silent):
    full = False
    def advance(self, count):
        if not self.full and list(Path("disk").rglob(".partial-*")):
            self.full = True
            with open("disk/filler", "wb", buffering=0) as filler:
                try:
                    while True:
                        filler.write(bytes(100_000))
                except OSError:
                    pass

try:
    mooring.package(
        mooring.ModelSpec(source=sys.argv[1]),
        name="tiny",
        experiment="small",
        options=mooring.PackageOptions(weights="copy"),
        watcher=Filling(),
    )
except NotEnoughSpace as error:
    print(error.message)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_llama(tmp_path / "tiny-llama")


def on_a_disk_of(megabytes: int, folder: Path, work: str) -> list[str]:
    """Run a shell script beside a `disk` of that size; return what it says, then what is there."""
    (folder / "disk").mkdir()
    own = Store.create(folder)
    MlflowClient(own.tracking_uri).create_experiment(
        "small", artifact_location=(folder / "disk" / "artifacts").as_uri()
    )
    (folder / "fill.py").write_text(FILL)
    mount = f"mount -t tmpfs -o size={megabytes}m tmpfs disk || exit"
    script = f"{mount}\n{work}\nfind disk -type f"
    ran = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "MLFLOW_TRACKING_URI": own.tracking_uri},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    assert MlflowClient(own.tracking_uri).search_registered_models() == []
    assert logged_models(Store(own.tracking_uri, own.artifacts, "small")) == {}
    return ran.stdout.splitlines()


def test_too_little_space_is_seen_before_anything_is_done(source: Path, tmp_path: Path) -> None:
    command = PACKAGE.format(source=source)
    said = on_a_disk_of(4, tmp_path, f"{BIN}/mooring {command} 2>&1; echo $?")
    message, code = said[-2:]
    assert message.startswith("Error: The artifact needs 5 MB of disk in ")
    assert message.endswith("Free: 4 MB. Free some space or choose another store.")
    assert code == "1"


def test_a_disk_that_becomes_full_keeps_nothing(source: Path, tmp_path: Path) -> None:
    message, *files = on_a_disk_of(20, tmp_path, f"{BIN}/python fill.py {source}")
    assert message.startswith("The disk that holds the artifact is full: 0 MB are free in ")
    assert "and it takes up to " in message
    assert files == ["disk/filler"]
