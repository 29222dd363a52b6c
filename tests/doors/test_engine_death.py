"""`mooring serve` as a real process outlives its engine, and ends clearly when it cannot."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.engines.process.children import children, wait_for
from tests.processes import BIN, free_port

PATIENCE = 60.0
LONG = {"model": "demo", "prompt": "one two three " * 20, "max_tokens": 150, "ignore_eos": True}


class Server:
    """A `mooring serve` process; what it wrote to stderr is in `log`."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self._log = log

    @property
    def lines(self) -> list[str]:
        return self._log.read_text().splitlines()

    @property
    def engine(self) -> psutil.Process | None:
        found = children(self.process.pid)
        return found[0] if found else None

    def status(self, path: str = "/ready") -> int:
        try:
            return httpx.get(f"{self.url}{path}", timeout=PATIENCE).status_code
        except httpx.ConnectError:
            return 0

    def complete(self, **values: object) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/completions", json=LONG | values, timeout=PATIENCE)

    def kill_engine(self) -> None:
        engine = self.engine
        assert engine is not None
        engine.kill()


@contextmanager
def serving(log: Path, *options: str) -> Iterator[Server]:
    """Serve the demo model, in a process group of its own like a command at a terminal."""
    port = free_port()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [BIN / "mooring", "serve", "models:/demo@champion", "--port", str(port), *options],
            stderr=file,
            start_new_session=True,
        )
    server = Server(process, f"http://127.0.0.1:{port}", log)
    try:
        wait_for(lambda: server.status() == 200)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("demo")
def test_streams_go_on_after_a_death_and_the_third_one_ends_the_server(tmp_path: Path) -> None:
    with serving(tmp_path / "log") as server:
        expected = server.complete().json()["choices"][0]["text"]
        with httpx.stream(
            "POST", f"{server.url}/v1/completions", json=LONG | {"stream": True}, timeout=PATIENCE
        ) as answer:
            lines = answer.iter_lines()
            chunks = [next(lines) for _ in range(20)]
            server.kill_engine()
            wait_for(lambda: server.status() == 503)
            assert server.status("/health") == 200
            refused = server.complete()
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert refused.json()["error"]["code"] == "not_ready"
            chunks += lines
        data = [chunk.removeprefix("data: ") for chunk in chunks if chunk]
        assert data[-1] == "[DONE]"
        text = "".join(json.loads(line)["choices"][0]["text"] for line in data[:-1])
        assert text == expected
        wait_for(lambda: server.status() == 200)
        server.kill_engine()
        wait_for(lambda: server.status() == 503)
        wait_for(lambda: server.status() == 200)
        assert server.complete().json()["choices"][0]["text"] == expected
        assert server.engine is not None
        server.engine.kill()
        assert server.process.wait(PATIENCE) == 70
    clear = [line for line in server.lines if not line.startswith("{")]
    assert clear[-1] == (
        "Error: The engine died 3 times in 60 s: it was ended by SIGKILL."
    )  # fmt: skip
    assert not [line for line in server.lines if "Traceback" in line]


@pytest.mark.usefixtures("demo")
def test_ctrl_c_lets_a_stream_finish_and_leaves_no_engine(tmp_path: Path) -> None:
    with serving(tmp_path / "log") as server:
        engine = server.engine
        assert engine is not None
        body = LONG | {"stream": True}
        with httpx.stream(
            "POST", f"{server.url}/v1/completions", json=body, timeout=PATIENCE
        ) as answer:
            os.killpg(server.process.pid, signal.SIGINT)
            data = answer.read().decode().split("\n\n")
        assert (
            json.loads(data[-3].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        )
        assert data[-2:] == ["data: [DONE]", ""]
        assert server.process.wait(PATIENCE) == 0
        assert not engine.is_running()


@pytest.mark.usefixtures("demo")
def test_an_engine_still_loading_ends_with_its_server(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [BIN / "mooring", "serve", "models:/demo@champion", "--port", str(port)],
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: bool(children(process.pid)))
    (engine,) = children(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    gone, alive = psutil.wait_procs([engine], timeout=2)
    assert (gone, alive) == ([engine], [])
