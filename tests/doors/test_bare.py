"""Where torch and transformers are not installed: what serves, and what says that it cannot."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

import mooring
from mooring.loading.bundle import open_bundle
from mooring.settings import EngineSettings
from tests.conftest import Store
from tests.doors.test_openvino import package
from tests.engines.upstream.servers import STAND_IN
from tests.processes import BIN, free_port, server

BARE = Path(__file__).parent.parent / "bare"
PROMPT = "The ship"
ASKED = {"temperature": 0, "max_tokens": 24, "ignore_eos": True}


@pytest.fixture(scope="module")
def llama(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the artifact of a tiny Llama, its conversion within."""
    return converted_llama(store, tmp_path_factory.mktemp("llama"))


def converted_llama(store: Store, folder: Path) -> Path:
    """Package a tiny Llama with its conversion; return its artifact."""
    packaged = package("llama", store, folder)
    return open_bundle(packaged.uri, tracking_uri=store.tracking_uri).folder


def expected_text(artifact: Path) -> str:
    """Return what the transformers engine answers."""
    settings = EngineSettings("transformers", dtype="float32")
    with mooring.load(str(artifact), engine=settings) as model:
        [text] = model.predict(PROMPT, ASKED)
    return text


def bare(**more: str) -> dict[str, str]:
    """Return what makes a process, and what it starts, see neither torch nor transformers."""
    path = os.pathsep.join(filter(None, (str(BARE), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, **more}


def ask(address: str, values: Mapping[str, object]) -> str:
    body = {"model": "llama-converted", "prompt": PROMPT, **values}
    response = httpx.post(f"{address}/v1/completions", json=body, timeout=60)
    assert response.status_code == 200, response.text
    text: str = response.json()["choices"][0]["text"]
    return text


def test_a_converted_model_is_served(llama: Path, tmp_path: Path) -> None:
    expected = expected_text(llama)
    (reports := tmp_path / "reports").mkdir()
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [BIN / "mooring", "serve", llama, "--dtype", "float32", "--port", port]
    environment = bare(BARE_REPORTS=str(reports))
    with server(command, f"{address}/ready", environment=environment) as process:
        assert ask(address, ASKED) == expected
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    found = {file.stem: json.loads(file.read_text()) for file in reports.iterdir()}
    assert str(process.pid) in found
    assert len(found) == 2, "the server and its engine"
    assert [report["held"] for report in found.values()] == [[], []]


def test_another_server_is_put_behind(llama: Path, tmp_path: Path) -> None:
    (reports := tmp_path / "reports").mkdir()
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        BIN / "mooring", "serve", llama, "--port", port, "--engine", "upstream",
        "--upstream-preset", "openai",
        "--upstream-command", shlex.join([sys.executable, "-S", str(STAND_IN), "{port}"]),
    ]  # fmt: skip
    environment = bare(BARE_REPORTS=str(reports))
    with server(command, f"{address}/ready", environment=environment) as process:
        assert ask(address, {"temperature": 0, "max_tokens": 50}) == PROMPT
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    [report] = [json.loads(file.read_text()) for file in reports.iterdir()]
    assert report["held"] == []


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["serve", "--help"], ["plan", "demo"], ["plan", "LLAMA"], ["info", "LLAMA"]],
    ids=" ".join,
)
def test_what_needs_no_model_works(llama: Path, arguments: list[str]) -> None:
    code, _, shown = mooring_says(llama, *arguments)
    assert (code, shown) == (0, "")


def test_packaging_says_what_is_missing_before_it_fetches(llama: Path, tmp_path: Path) -> None:
    code, out, shown = mooring_says(llama, "package", str(tmp_path / "no-model"), "--name", "x")
    assert code == 1
    assert "Missing: accelerate, safetensors, torch, transformers." in shown
    assert "pip install 'mooring[transformers]'" in shown
    assert "Traceback" not in out + shown


def test_serving_says_what_is_missing(llama: Path) -> None:
    code, out, shown = mooring_says(llama, "serve", "LLAMA", "--engine", "transformers")
    assert code == 1
    assert "The transformers engine needs torch and transformers." in shown
    assert "pip install 'mooring[transformers]'" in shown
    assert "Traceback" not in out + shown


def test_a_tokenizer_that_needs_transformers_says_so(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    shutil.copytree(llama, folder)
    file = folder / "artifacts" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer": None}))
    code, _, shown = mooring_says(folder, "predict", "LLAMA", "Hi")
    assert code == 1
    assert "This model's tokenizer needs transformers." in shown


def mooring_says(llama: Path, *arguments: str) -> tuple[int, str, str]:
    """Run `mooring` bare; return its code and what it wrote, lines joined."""
    ran = subprocess.run(
        [BIN / "mooring", *(str(llama) if part == "LLAMA" else part for part in arguments)],
        env={**os.environ, **bare(COLUMNS="1000")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return ran.returncode, ran.stdout, ran.stderr
