"""How a process ends with its parent, and what it started with it: the kernel sees to both."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_FIRST_PROCESS = 1


def end_with(parent: int) -> None:
    """Let the kernel end this process when its parent ends, where it can."""
    _ask_for_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def guard_group() -> None:
    """Start a process that waits for the end of this one, and then ends its whole group.

    Must be called by the leader of the group, before it has threads. Under the first process of a
    container there is no need: with it the kernel ends everything.
    """
    if sys.platform != "linux" or os.getppid() == _FIRST_PROCESS:
        return
    leader = os.getpid()
    if os.fork() == 0:
        os.closerange(0, os.sysconf("SC_OPEN_MAX"))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        _ask_for_signal(signal.SIGTERM)
        if os.getppid() == leader:  # else it has ended already, and no signal will come
            signal.sigwait({signal.SIGTERM})
        os.killpg(leader, signal.SIGKILL)


def _ask_for_signal(number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent ends, where it can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
