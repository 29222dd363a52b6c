"""Where torch and transformers are not installed: what serves, and what says that it cannot."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

import mooring
from mooring.loading.bundle import open_bundle
from mooring.settings import EngineSettings
from tests import models
from tests.conftest import Store
from tests.engines.conftest import DATA
from tests.engines.upstream.servers import STAND_IN
from tests.processes import BIN, free_port, server

BARE = Path(__file__).parent.parent / "bare"
PROMPT = "The ship"
ASKED = {"temperature": 0, "max_tokens": 24, "ignore_eos": True}

# Serves a model whose conversion is not in the artifact.
CONVERTED_ELSEWHERE = """
import sys
from functools import partial
from mooring.api.serve import serve
from mooring.loading import start
from mooring.settings import EngineSettings, ServerSettings
_, converted, folder, port = sys.argv
start.EngineDescription = partial(start.EngineDescription, converted=converted)
engine = EngineSettings("openvino", dtype="float32")
sys.exit(serve(folder, ServerSettings(port=int(port), engine=engine)))
"""


@pytest.fixture(scope="module")
def llama(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the artifact of a tiny Llama."""
    source = models.tiny_llama(tmp_path_factory.mktemp("source") / "llama")
    packaged = store.package(str(source), "bare-llama")
    return open_bundle(packaged.uri, tracking_uri=store.tracking_uri).folder


def bare(**more: str) -> dict[str, str]:
    """Return what makes a process, and what it starts, see neither torch nor transformers."""
    path = os.pathsep.join(filter(None, (str(BARE), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, **more}


def ask(address: str, values: Mapping[str, object]) -> str:
    body = {"model": "bare-llama", "prompt": PROMPT, **values}
    response = httpx.post(f"{address}/v1/completions", json=body, timeout=60)
    assert response.status_code == 200, response.text
    text: str = response.json()["choices"][0]["text"]
    return text


def test_a_converted_model_is_served(llama: Path, tmp_path: Path) -> None:
    with mooring.load(str(llama), engine=EngineSettings(dtype="float32")) as model:
        [expected] = model.predict(PROMPT, ASKED)
    with ZipFile(DATA / "llama_openvino.zip") as archive:
        archive.extractall(tmp_path / "converted")
    (reports := tmp_path / "reports").mkdir()
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-c", CONVERTED_ELSEWHERE, tmp_path / "converted", llama, port]
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
        "--upstream-preset", "llama.cpp",
        "--upstream-command", shlex.join([sys.executable, "-S", str(STAND_IN), "{port}"]),
    ]  # fmt: skip
    environment = bare(BARE_REPORTS=str(reports))
    with server(command, f"{address}/ready", environment=environment) as process:
        ids = "".join(chr(models.FIRST_BYTE + index) for index in _bytes_in_order(PROMPT))
        assert ask(address, {"temperature": 0, "max_tokens": 50}) == ids
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    [report] = [json.loads(file.read_text()) for file in reports.iterdir()]
    assert report["held"] == []


def _bytes_in_order(text: str) -> list[int]:
    """Return where the bytes of `text` are in the sorted byte alphabet of the tiny tokenizer."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    [(shown, _)] = pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(text)
    return [alphabet.index(character) for character in shown]


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
    code, out, shown = mooring_says(llama, "serve", "LLAMA", "--port", str(free_port()))
    assert code == 1
    assert "The transformers engine needs torch and transformers." in shown
    assert "pip install 'mooring[transformers]'" in shown
    assert "Traceback" not in out + shown


def test_a_tokenizer_that_needs_transformers_says_so(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    folder.mkdir()
    for part in llama.iterdir():
        (folder / part.name).symlink_to(part)
    (folder / "artifacts").unlink()
    (folder / "artifacts").mkdir()
    (folder / "artifacts" / "snapshot").symlink_to(llama / "artifacts" / "snapshot")
    manifest = json.loads((llama / "artifacts" / "manifest.json").read_text())
    text = json.dumps(manifest | {"tokenizer": None})
    (folder / "artifacts" / "manifest.json").write_text(text)
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
