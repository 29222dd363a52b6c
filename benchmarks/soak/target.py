"""The server under load: started, watched from outside, and ended."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ENGINE_MODULE = "mooring.engines.process.child"
START_SECONDS = 60.0
SERVER_PROCESSOR, CLIENT_PROCESSOR = 0, 1


@dataclass(frozen=True)
class Held:
    """What a server and its children hold: megabytes, descriptors, threads, processes."""

    megabytes: float
    descriptors: int
    threads: int
    processes: int


class Target:
    """A running server process."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    @property
    def log(self) -> str:
        """What the server has written."""
        return self._log.read_text()

    @property
    def engine(self) -> psutil.Process | None:
        """The process of the engine, while there is one."""
        for child in psutil.Process(self.process.pid).children():
            try:
                if ENGINE_MODULE in child.cmdline():
                    return child
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return None

    def held(self) -> Held:
        """Count what the server holds now; memory and threads without its children's."""
        this = psutil.Process(self.process.pid)
        return Held(
            this.memory_info().rss / 1e6,
            this.num_fds(),
            this.num_threads(),
            len(this.children(recursive=True)),
        )

    def held_at_last(self, before: Held) -> Held:
        """Count what is held once connections that just ended are gone, or after two seconds."""
        ends = time.monotonic() + 2
        while (held := self.held()).descriptors > before.descriptors and time.monotonic() < ends:
            time.sleep(0.05)
        return held

    def status(self, path: str = "/ready") -> int:
        """Ask a probe; 0 if nobody listens."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=10).status_code
        except httpx.HTTPError:
            return 0

    def stop(self, seconds: float) -> int:
        """Send SIGTERM and return the exit code; raises `subprocess.TimeoutExpired`."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextmanager
def target(*options: object) -> Iterator[Target]:
    """Run the echo server, on a processor of its own where there are two."""
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.soak.echo_server", "--port", port, *options]
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen([str(part) for part in command], stderr=file)
        pin(process.pid, SERVER_PROCESSOR)
        server = Target(process, port, log)
        try:
            deadline = time.monotonic() + START_SECONDS
            while server.status() != 200:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"The server did not start: {server.log}")
                time.sleep(0.05)
            yield server
        finally:
            process.kill()
            process.wait()


def pin(process: int, processor: int) -> None:
    """Keep a process on one processor where there are several and the system can."""
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(process, {sorted(os.sched_getaffinity(0))[processor]})


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
