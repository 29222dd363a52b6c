"""Real server processes in tests: started, awaited, stopped, with their output at hand."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

BIN = Path(sys.executable).parent
START_SECONDS = 120


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


@contextmanager
def server(
    command: Sequence[object],
    health: str,
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float = START_SECONDS,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server until its `health` address answers 200; end its whole group afterwards."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **(environment or {})},
            start_new_session=True,
        )
        try:
            _await(process, health, log, time.monotonic() + seconds)
            yield process
        finally:
            _end(process)


def _await(
    process: "subprocess.Popen[bytes]", health: str, log: IO[bytes], deadline: float
) -> None:
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(health, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    log.seek(0)
    output = log.read().decode(errors="replace")
    raise RuntimeError(f"The server at {health} did not start:\n{output}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
