"""`mooring serve` as a real process outlives its engine, and ends clearly when it cannot."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.engines.process.children import children, wait_for
from tests.processes import BIN, free_port

PATIENCE = 60.0
LONGER = 600
PROMPTS = [f"{word} two three " * 20 for word in ("one", "ten", "six")]
LONG = {"model": "demo", "prompt": PROMPTS[0], "max_tokens": 150, "ignore_eos": True}


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

    def text(self, prompt: str) -> str:
        text: str = self.complete(prompt=prompt, max_tokens=LONGER).json()["choices"][0]["text"]
        return text

    def await_requests(self, count: int) -> None:
        """Wait until the server has read so many requests that it has not answered."""
        process = psutil.Process(self.process.pid)

        def connected() -> int:
            connections = process.net_connections("tcp")
            return sum(one.status == psutil.CONN_ESTABLISHED for one in connections)

        wait_for(lambda: connected() >= count)
        assert self.complete(max_tokens=-1).status_code == 400

    def kill_engine(self) -> None:
        engine = self.engine
        assert engine is not None
        engine.kill()


class Stream:
    """A streamed completion; `data` grows while a thread reads it."""

    def __init__(self, server: Server, **values: object) -> None:
        self._server = server
        self._body = LONG | {"stream": True, "max_tokens": LONGER} | values
        self.status = 0
        self.data: list[str] = []

    def read(self) -> None:
        url = f"{self._server.url}/v1/completions"
        with httpx.stream("POST", url, json=self._body, timeout=PATIENCE) as answer:
            self.status = answer.status_code
            for line in answer.iter_lines():
                if line:
                    self.data.append(line.removeprefix("data: "))

    @property
    def text(self) -> str:
        """The whole answer, which must have ended well."""
        assert (self.status, self.data[-1]) == (200, "[DONE]")
        return "".join(json.loads(line)["choices"][0]["text"] for line in self.data[:-1])


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
def test_streams_outlive_two_deaths_and_the_third_one_ends_the_server(tmp_path: Path) -> None:
    options = ("--max-running", "8", "--hang-seconds", "5", "--dtype", "float32")
    with serving(tmp_path / "log", *options) as server, ThreadPoolExecutor(13) as pool:
        expected = [server.text(prompt) for prompt in PROMPTS]
        for kills in (True, False):
            streams = [Stream(server, prompt=PROMPTS[n % 3]) for n in range(7)]
            unseeded = Stream(server, temperature=1.0)
            reading = [pool.submit(stream.read) for stream in (*streams, unseeded)]
            wait_for(lambda s=[*streams, unseeded]: all(len(one.data) > 2 for one in s))  # type: ignore[misc]
            engine = server.engine
            assert engine is not None
            engine.suspend()
            waiting = [Stream(server, prompt=PROMPTS[n % 3]) for n in range(4)]
            reading += [pool.submit(stream.read) for stream in waiting]
            server.await_requests(12)
            if kills:
                engine.kill()
            wait_for(lambda: server.status() == 503)
            assert server.status("/health") == 200
            refused = server.complete()
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert refused.json()["error"]["code"] == "not_ready"
            for future in reading:
                future.result(PATIENCE)
            assert [stream.text for stream in streams] == [expected[n % 3] for n in range(7)]
            assert [stream.text for stream in waiting] == [expected[n % 3] for n in range(4)]
            assert unseeded.data[-1] == "[DONE]"
            assert json.loads(unseeded.data[-2])["error"]["code"] == "engine_stopped"
            wait_for(lambda: server.status() == 200)
        server.kill_engine()
        assert server.process.wait(PATIENCE) == 70
    assert server.lines[-1] == "Error: The engine died 3 times in 60 s: it was ended by SIGKILL."
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
