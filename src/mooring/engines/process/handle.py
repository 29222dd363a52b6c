"""One child process as its parent holds it: started, spoken to, ended, reaped."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress

import msgspec

from mooring.engines.process.messages import Close, Command, Report
from mooring.engines.process.pipe import Pipe

CLOSE_SECONDS = 3.0
_TERMINATE_SECONDS = 1.0
_STANDARD_ERROR = 2


class ChildDied(Exception):
    """The child has ended, or must be; says why."""


class ChildProcess:
    """Starts a child at once. Must be made in a thread that outlives it.

    The kernel ends the child when the thread that started it ends, not only with the process.
    """

    def __init__(self) -> None:
        try:
            ours, theirs = socket.socketpair()
            self._pipe = Pipe(ours)
        except OSError as error:
            raise ChildDied(f"it could not be started: {error.strerror}") from error
        try:
            with theirs:
                self._process = _start(theirs.fileno())
        except OSError as error:
            self._pipe.close()
            raise ChildDied(f"it could not be started: {error.strerror}") from error

    def send(self, command: Command) -> None:
        """Queue a command; never blocks."""
        self._pipe.send(command)

    def receive(self, seconds: float) -> list[Report]:
        """Wait up to `seconds` for reports; raise `ChildDied` if none can come any more."""
        ended = self._has_ended(0)
        try:
            reports = self._pipe.receive(0 if ended else seconds)
        except EOFError:
            raise ChildDied(self._cause()) from None
        except msgspec.MsgspecError as error:
            raise ChildDied(f"it said what cannot be understood: {error}") from error
        if ended and not reports:
            raise ChildDied(self._cause())
        return reports

    def end(self, *, grace: float = 0.0) -> None:
        """End the child and reap it; it has `grace` seconds to free its model, if any."""
        if grace and not self._has_ended(0):
            self._pipe.send(Close())
            self._await_end(grace)
        if grace and not self._has_ended(0):
            self._process.terminate()
            self._has_ended(_TERMINATE_SECONDS)
        with suppress(ProcessLookupError):  # with it goes what it started itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pipe.close()

    def _await_end(self, seconds: float) -> None:
        """Let the child finish what it writes: a full pipe would hold it back."""
        for _ in range(round(seconds / 0.05)):
            try:
                self._pipe.receive(0)
            except EOFError:
                self._has_ended(seconds)
                return
            if self._has_ended(0.05):
                return

    def _has_ended(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _cause(self) -> str:
        """Say how the child ended; its pipe closes a moment before it does."""
        if not self._has_ended(_TERMINATE_SECONDS):
            return "it closed its pipe"
        code = self._process.returncode
        return f"it was ended by {_signal_name(-code)}" if code < 0 else f"it exited with {code}"


def _start(descriptor: int) -> "subprocess.Popen[bytes]":
    """Start a child with one end of a pipe, in a process group of its own.

    What it prints goes to standard error, the terminal's Ctrl-C goes to the parent alone, and it
    imports nothing from the working directory (`-P`).
    """
    module = "mooring.engines.process.child"
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(descriptor), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=_STANDARD_ERROR,
        pass_fds=(descriptor,),
        process_group=0,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
