"""What a running server goes by: the command line, then variables, the file, the artifact."""

import os
import subprocess
from pathlib import Path

import httpx
import pytest

from mooring.api.package import PackagedModel
from tests.conftest import Store
from tests.processes import BIN, free_port, server

URI = "models:/demo@champion"
ARTIFACT, FILE, VARIABLE, FLAG = 1024, 300, 200, 100


@pytest.mark.parametrize(
    ("given", "context"),
    [
        ((), ARTIFACT),
        ((FILE,), FILE),
        ((VARIABLE,), VARIABLE),
        ((FLAG,), FLAG),
        ((FILE, VARIABLE), VARIABLE),
        ((FILE, FLAG), FLAG),
        ((VARIABLE, FLAG), FLAG),
    ],
)
def test_each_comes_before_the_next(
    demo: PackagedModel, store: Store, tmp_path: Path, given: tuple[int, ...], context: int
) -> None:
    (tmp_path / "mooring.yaml").write_text(f"max-context: {FILE}\n")
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [BIN / "mooring", "serve", URI, "--engine", "echo", "--port", port]
    if FILE in given:
        command += ["--config", tmp_path / "mooring.yaml"]
    if FLAG in given:
        command += ["--max-context", FLAG]
    environment = {"MOORING_SERVE_MAX_CONTEXT": str(VARIABLE)} if VARIABLE in given else {}
    with server(command, f"{address}/ready", environment=environment):
        (model,) = httpx.get(f"{address}/v1/models").json()["data"]
    assert model["max_model_len"] == context


def test_a_misspelt_variable_ends_the_start() -> None:
    ended = subprocess.run(
        [BIN / "mooring", "serve", URI],
        env=os.environ | {"MOORING_SERVE_MAX_RUNING": "4"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "Did you mean `MOORING_SERVE_MAX_RUNNING`?" in ended.stderr
