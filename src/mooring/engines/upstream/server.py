"""A server that we start: on a free port of this machine, watched, its output passed on, ended."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from mooring.engines.process.handle import ChildDied

CLOSE_SECONDS = 3.0
_KILL_SECONDS = 2.0
_STANDARD_ERROR = 2
_LAST_LINES, _MOST_LINE_BYTES = 8, 2000
_GUARDIAN = Path(__file__).with_name("guardian.py")


def free_port() -> int:
    """Return a port of this machine that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


class Server:
    """A process group of its own under a guardian; what it writes goes to standard error.

    The last lines are kept until `forget_output`: before any prompt was sent they hold none.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._keeps = True
        try:
            self._guardian = _start(command)
        except OSError as error:
            raise ChildDied(f"it could not be started: {error.strerror}") from error
        assert self._guardian.stdout is not None
        self._reader = threading.Thread(
            target=self._pass_on, args=(self._guardian.stdout,), name="upstream", daemon=True
        )
        self._reader.start()

    @property
    def ended(self) -> bool:
        """Whether the server has ended."""
        return self._guardian.poll() is not None

    def cause(self) -> str:
        """Say how the server ended."""
        code = self._guardian.wait(_KILL_SECONDS)
        return (
            f"it was ended by {_signal_name(abs(code) % 128)}"
            if _killed(code)
            else (f"it exited with {code}")
        )

    def last_output(self) -> str:
        """Return the last lines that the server wrote before `forget_output`."""
        self._reader.join(_KILL_SECONDS if self.ended else 0)
        return "\n".join(self._last)

    def forget_output(self) -> None:
        """Keep no more of what the server writes."""
        self._keeps = False
        self._last.clear()

    def end(self, *, grace: float = 0.0) -> None:
        """End the server and all it started; it has `grace` seconds to end by itself."""
        if grace and not self.ended:
            self._guardian.terminate()
            self._wait(grace)
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        self._wait(_KILL_SECONDS)
        self._guardian.kill()
        self._guardian.wait()
        self._reader.join(_KILL_SECONDS)

    def _wait(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._guardian.wait(seconds)

    def _pass_on(self, output: IO[bytes]) -> None:
        with output:
            while line := output.readline(_MOST_LINE_BYTES):
                if self._keeps:
                    self._last.append(line.decode(errors="replace").rstrip())
                with suppress(OSError):
                    os.write(_STANDARD_ERROR, line)


def _start(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start the guardian, which starts the server; neither hears the terminal's Ctrl-C.

    Programs that are installed beside this Python are found, after those of the search path.
    """
    beside = os.path.dirname(sys.executable)
    path = os.pathsep.join(filter(None, (os.environ.get("PATH"), beside)))
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_GUARDIAN), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        env={**os.environ, "PATH": path},
    )


def _killed(code: int) -> bool:
    return code < 0 or code > 128


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
