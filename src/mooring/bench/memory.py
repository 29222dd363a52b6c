"""The most memory that processes and their children hold, looked at while others work."""

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import psutil

SAMPLE_SECONDS = 0.1


class PeakMemory:
    """Watches resident memory between `with` and its end; pages that processes share count in each.

    `bytes` is the most seen so far, None where no process could be seen.
    """

    def __init__(self, processes: Sequence[int]) -> None:
        self.bytes: int | None = None
        self._roots = processes
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> Self:
        if self._roots:
            self._look()
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        held = [_resident(root) for root in self._roots]
        seen = [size for size in held if size is not None]
        if seen:
            self.bytes = max(self.bytes or 0, sum(seen))


def _resident(root: int) -> int | None:
    """Return what a process and its children hold now, None if it is gone or not ours to see."""
    try:
        parent = psutil.Process(root)
        family = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return None
    total = 0
    for process in family:
        try:
            total += int(process.memory_info().rss)
        except psutil.Error:
            continue
    return total
