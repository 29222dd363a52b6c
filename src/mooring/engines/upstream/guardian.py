"""Stands between Mooring and a server it starts: when Mooring ends, however, so does the server.

Runs as a script of its own, on the standard library alone. Its arguments are the server's command,
its input a pipe that Mooring holds open. It ends as the server does, and the server's whole process
group ends with it.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_NOT_FOUND = 127


def main() -> int:
    """Run the server; return its exit code, 128 and the signal if one ended it."""
    try:
        server = subprocess.Popen(
            sys.argv[1:], stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_end_with_parent
        )
    except OSError as error:
        os.write(2, f"{sys.argv[1]} cannot be run: {error.strerror}\n".encode())
        return _NOT_FOUND
    signal.signal(signal.SIGTERM, lambda *_: _signal(server.pid, signal.SIGTERM))
    threading.Thread(target=_await_parent, args=(server.pid,), daemon=True).start()
    code = server.wait()
    _signal(server.pid, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def _end_with_parent() -> None:
    """Let the kernel end the server if this process is killed, where it can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _await_parent(group: int) -> None:
    """Wait until nobody holds the other end of the pipe, then end all."""
    while os.read(0, 1):
        pass
    _signal(group, signal.SIGKILL)
    os._exit(1)


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(main())
