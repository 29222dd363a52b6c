"""A whole server as a process of its own, to be attacked, with a stream that must not notice."""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.engines.process.children import children, wait_for
from tests.processes import free_port

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0
RUNNING, WAITING = 8, 8
TEXT = {"model": "echo", "prompt": "hi"}
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
JSON = {"content-type": "application/json"}
LONG_TEXT = "".join(f"{number:04d} " for number in range(160))


class Server:
    """The echo server at `url`; what it wrote to stderr is in `log`."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)
        self.bystanders = 0
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def engine(self) -> psutil.Process:
        """The process of its engine."""
        (engine,) = children(self.process.pid)
        return engine

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """Send a body: bytes as they are, all else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(path, content=content, headers=JSON | headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def say(self, sent: bytes) -> bytes:
        """Send bytes on a connection of their own, and return all that comes until it is closed."""
        with self.connect() as connection:
            with suppress(ConnectionError):  # refused before all of it was read
                connection.sendall(sent)
            return everything(connection)

    def held(self) -> tuple[int, int]:
        """Count descriptors and children, not those of connections that clients keep open."""
        process = psutil.Process(self.process.pid)
        return process.num_fds(), len(process.children(recursive=True))

    def taken(self) -> int:
        """Count the places that are taken, without taking one."""
        metrics = self.client.get("/metrics").text
        (found,) = re.findall(r"^mooring_sequences_held\{.*\} (.+)$", metrics, re.MULTILINE)
        return int(float(found))

    def all_places_free(self) -> bool:
        """Ask for all places but those of bystanders, which is refused if one more is taken."""
        free = RUNNING + WAITING - self.bystanders
        body = {**TEXT, "prompt": ["a"] * free, "stream": True}
        return self.post("/v1/completions", body).status_code == 200


def everything(connection: socket.socket) -> bytes:
    """Read until the server closes; a reset is an end too."""
    read = b""
    try:
        while part := connection.recv(65536):
            read += part
    except ConnectionResetError:
        pass
    return read


def status_of(answer: bytes) -> int:
    """Return the status of an answer, 0 if there is none."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


class Bystander:
    """A client that streams one long answer after another until it is stopped."""

    def __init__(self, server: Server, key: str | None = None) -> None:
        self.texts: list[str] = []
        self._server = server
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=server.url, timeout=PATIENCE)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live)

    def __enter__(self) -> "Bystander":
        self._server.bystanders += 1
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(3 * PATIENCE)
        self._client.close()
        self._server.bystanders -= 1
        assert self.texts
        assert set(self.texts) == {LONG_TEXT}

    def _live(self) -> None:
        while not self._stopping.is_set():
            self.texts.append(self._one())

    def _one(self) -> str:
        body = {**TEXT, "prompt": LONG_TEXT, "stream": True}
        with self._client.stream(
            "POST", "/v1/completions", json=body, headers=self._headers
        ) as answer:
            *lines, done = [line for line in answer.iter_lines() if line]
        if answer.status_code != 200 or done != "data: [DONE]":
            return f"{answer.status_code}: {lines} {done}"
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line[0] != ":"]
        return "".join(event["choices"][0]["text"] for event in events)


@contextmanager
def echo_server(log: Path, *options: object) -> Iterator[Server]:
    """Run the server until the block ends; it must end by itself, and well, when told to."""
    port = free_port()
    given: Sequence[object] = ("--port", port, "--running", RUNNING, "--waiting", WAITING, *options)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.soak.echo_server", *map(str, given)],
            cwd=ROOT,
            stderr=file,
        )
    server = Server(process, port, log)
    try:
        wait_for(lambda: _is_ready(server))
        yield server
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert "Traceback" not in server.log
    finally:
        server.client.close()
        process.kill()
        process.wait()


def _is_ready(server: Server) -> bool:
    assert server.process.poll() is None, server.log
    try:
        return server.client.get("/ready").status_code == 200
    except httpx.ConnectError:
        return False


@contextmanager
def unharmed(server: Server) -> Iterator[None]:
    """Whatever happens in the block, everything it took is given back soon after."""
    wait_for(server.all_places_free)
    before = server.held()
    yield
    wait_for(server.all_places_free)
    deadline = time.monotonic() + PATIENCE
    while server.held() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.held() <= before
