"""A server that a benchmark starts, measures over HTTP and ends."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import httpx

from mooring.bench.server_target import ServerTarget
from mooring.bench.target import Answer, Ask
from mooring.errors import BenchmarkFailed

START_SECONDS = 180


class ServedTarget:
    """Measures the server that `command` starts; `{port}` in it is a free port.

    It is ready when `health` answers 200; `options` are those of `ServerTarget`.
    """

    def __init__(
        self, name: str, command: Sequence[object], *, health: str = "/v1/models", **options: Any
    ) -> None:
        self.name = name
        self._port = free_port()
        self._health = f"http://127.0.0.1:{self._port}{health}"
        self._command = [str(part).replace("{port}", str(self._port)) for part in command]
        self._server: subprocess.Popen[bytes] | None = None
        self._target = ServerTarget(f"http://127.0.0.1:{self._port}", name=name, **options)

    def open(self) -> dict[str, str]:
        """Start the server and wait until it has loaded its model."""
        self._server = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if time.monotonic() > deadline or self._server.poll() is not None:
                raise BenchmarkFailed(f"{self.name} did not start: {' '.join(self._command)}")
            time.sleep(0.2)
        return self._target.open()

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        """Ask over HTTP."""
        return self._target.answer(asks)

    def processes(self) -> list[int]:
        """Return the server."""
        return [] if self._server is None else [self._server.pid]

    def close(self) -> None:
        """End the server and all that it started."""
        self._target.close()
        if self._server is None or self._server.poll() is not None:
            return
        os.killpg(self._server.pid, signal.SIGTERM)
        try:
            self._server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()

    def _ready(self) -> bool:
        try:
            return httpx.get(self._health).status_code == 200
        except httpx.HTTPError:
            return False


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
