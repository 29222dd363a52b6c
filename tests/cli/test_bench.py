"""`mooring bench` as people run it: a process, real engines, a real server, a real store."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mooring.demo import snapshot_path
from tests.conftest import Store
from tests.processes import BIN, free_port, server

QUICK = ("--quick", "--runs", "2")


@pytest.fixture(scope="module")
def uri(store: Store) -> str:
    return store.package("demo", "bench-demo").uri


@pytest.fixture(scope="module")
def url(uri: str) -> Iterator[str]:
    port = free_port()
    command = [BIN / "mooring", "serve", uri, "--engine", "echo", "--port", port]
    with server(command, f"http://127.0.0.1:{port}/v1/models"):
        yield f"http://127.0.0.1:{port}"


def bench(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [str(part) for part in (BIN / "mooring", "bench", *arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def report(*arguments: object) -> dict[str, Any]:
    done = bench(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def test_a_packaged_model_beside_another_engine(uri: str, tmp_path: Path) -> None:
    picture, written = tmp_path / "bench.png", tmp_path / "bench.json"
    found = report(
        uri, *QUICK, "--against-engine", "echo", "--plot", picture, "--output", written
    )  # fmt: skip
    assert [s["name"] for s in found["scenarios"]] == ["single", "first token", "4 at once"]
    ours, echo = found["targets"]
    assert (ours["target"], echo["target"]) == (f"{uri} (auto)", f"{uri} (echo)")
    assert ours["facts"]["runs on"] == "cpu in bfloat16"
    assert ours["facts"]["tokens counted"] == "each one"
    assert echo["facts"]["engine"] == "echo 1"
    wanted = found["scenarios"][2]["output_tokens"]
    assert ours["figures"]["4 at once"]["output_tokens"] == wanted
    assert ours["figures"]["4 at once"]["runs"] == 2
    assert ours["peak_memory_bytes"] > 50_000_000
    assert [r["scenario"] for r in found["ratios"]] == ["single", "first token", "4 at once"]
    ratio = found["ratios"][2]["tokens_per_second"]
    speeds = [t["figures"]["4 at once"]["tokens_per_second"] for t in (ours, echo)]
    assert ratio == pytest.approx(speeds[0] / speeds[1])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(written.read_text()) == found


def test_a_server_beside_a_packaged_model(uri: str, url: str) -> None:
    found = report(f"{url}/v1", *QUICK, "--concurrency", 3, "--against", uri)
    served, packaged = found["targets"]
    assert served["facts"] == {
        "model": "bench-demo",
        "prompts": "token ids",
        "end token ignored": "yes",
        "tokens counted": "from usage",
    }
    assert served["peak_memory_bytes"] > 50_000_000
    wanted = found["scenarios"][2]
    assert wanted["name"] == "3 at once"
    for target in (served, packaged):
        assert target["figures"]["3 at once"]["output_tokens"] == wanted["output_tokens"]


def test_figures_become_metrics_of_the_logged_model(uri: str, store: Store) -> None:
    import mlflow

    done = bench(uri, *QUICK, "--engine", "echo", "--log")
    assert done.returncode == 0, done.stderr
    assert "4 at once" in done.stdout
    assert "Most memory: " in done.stdout
    mlflow.set_tracking_uri(store.tracking_uri)
    model_id = mlflow.models.get_model_info(uri).model_id
    logged = mlflow.get_logged_model(model_id)
    metrics = {metric.key: metric.value for metric in logged.metrics}
    assert metrics["bench.4_at_once.tokens_per_second"] > 0
    assert metrics["bench.first_token.first_token_seconds.p99"] > 0
    assert metrics["bench.peak_memory_bytes"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["http://127.0.0.1:1"], 1, "must answer http://127.0.0.1:1/v1/models"),
        (["{url}", "--model", "other"], 1, "must answer /v1/completions with 200. Given: 404"),
        (["./nothing"], 1, "must be a folder with an MLmodel file"),
        (["{url}", "--engine", "echo"], 2, "--engine is for a packaged model"),
        (["{url}", "--dtype", "float32"], 2, "--device and --dtype are for packaged models"),
        (["{url}", "--log"], 2, "--log needs a packaged model"),
        (["{uri}", "--model", "x"], 2, "--model is the name to ask a server for"),
        (["{uri}", "--plot", "x.pdf"], 2, "--plot writes a PNG file"),
        (["http://"], 2, "given by its base address"),
    ],
)
def test_wrong_use(uri: str, url: str, arguments: list[str], code: int, message: str) -> None:
    done = bench(*(argument.format(uri=uri, url=url) for argument in arguments), "--json")
    assert done.returncode == code
    assert message in json.loads(done.stderr.splitlines()[-1])["error"]["message"]
    assert done.stdout == ""


def test_a_context_too_short_for_the_work_is_refused(store: Store, tmp_path: Path) -> None:
    folder = shutil.copytree(snapshot_path(), tmp_path / "short")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"max_seq_len": 1024', '"max_seq_len": 256'))
    done = bench(store.package(str(folder), "bench-short").uri)
    assert done.returncode == 2
    assert "needs a context of 513 tokens. The model's: 256." in " ".join(done.stderr.split())


def test_an_interrupt_ends_the_engine_too(uri: str) -> None:
    command = [str(BIN / "mooring"), "bench", uri, "--concurrency", "64", "--runs", "100"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    family = psutil.Process(process.pid)
    while not (children := family.children()):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted." in shown
    assert "Traceback" not in shown
    psutil.wait_procs(children, timeout=10)
    assert not any(child.is_running() for child in children)
