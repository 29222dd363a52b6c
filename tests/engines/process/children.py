"""The child processes of engines under test: found, signalled, and what they leave behind."""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from mooring.engines.contract import Capabilities
from mooring.engines.description import EngineDescription
from mooring.engines.process import ProcessEngine
from mooring.errors import EngineStopped
from mooring.settings import EngineSettings
from tests import models
from tests.engines.driving import DEADLINE_SECONDS

MODULE = "mooring.engines.process.child"


def children(parent: int | None = None) -> list[psutil.Process]:
    """Return the engine processes of this process or of another."""
    found = []
    for process in psutil.Process(parent).children():
        try:
            if MODULE in process.cmdline():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def kill_child(number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to the one engine process of this process."""
    (child,) = children()
    child.send_signal(number)


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@dataclass
class Observed:
    """What an engine tells its observer, in order."""

    told: list[str] = field(default_factory=list)
    error: EngineStopped | None = None

    def engine_restarting(self) -> None:
        self.told.append("restarting")

    def engine_restarted(self) -> None:
        self.told.append("restarted")

    def engine_failed(self, error: EngineStopped) -> None:
        self.told.append("failed")
        self.error = error


class EchoChild:
    """A process engine around echo, started; ends with the `with` block."""

    def __init__(
        self,
        *,
        seconds_per_token: float = 0.005,
        breaks_at_step: int | None = None,
        max_running: int = 32,
        hang_seconds: float = 10.0,
    ) -> None:
        self.observed = Observed()
        self.engine = ProcessEngine(
            EngineDescription(
                snapshot="",
                context_length=models.CONTEXT_LENGTH,
                vocabulary_size=models.VOCABULARY_SIZE,
                settings=EngineSettings("echo", max_running=max_running, hang_seconds=hang_seconds),
                seconds_per_token=seconds_per_token,
                breaks_at_step=breaks_at_step,
            ),
            self.observed,
        )
        self.capabilities: Capabilities | None = None

    def __enter__(self) -> "EchoChild":
        self.capabilities = self.engine.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()
        assert children() == []
        assert "engine" not in [thread.name for thread in threading.enumerate()]
