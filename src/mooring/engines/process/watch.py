"""When a child counts as hung, and when its deaths are too many."""

import time
from collections.abc import Callable

MOST_DEATHS, WITHIN_SECONDS = 3, 60.0
RESTART_DELAYS = (0.1, 0.5, 2.0)

# Imports, weights from a slow disk and the first step of a fresh model take their time.
_PATIENCE_AT_START = 10
# Reading a prompt is one long step: 10 tokens a second is slow even for a large model on a CPU.
_SECONDS_PER_UNREAD_TOKEN = 0.1
# A parent that was stopped itself has heard nothing, and that is not the child's fault.
_LONGEST_GAP = 1.0


class Watch:
    """Tells a child that works from one that hangs.

    It hangs when it says nothing for `hang_seconds`, or has work and makes no step for so long.
    Until it has opened its model (for silence) and made its first step (for steps) it has ten
    times as long, and for each prompt token that it has yet to read a tenth of a second more.
    """

    def __init__(self, hang_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._hang_seconds = hang_seconds
        self._clock = clock
        self._looked = self._heard = self._progressed = clock()
        self._opened_at: float | None = None
        self._steps = 0

    @property
    def heartbeat_seconds(self) -> float:
        """How often the child should say how it is."""
        return min(1.0, self._hang_seconds / 5)

    @property
    def open(self) -> bool:
        """Whether the engine has been opened."""
        return self._opened_at is not None

    @property
    def worked_seconds(self) -> float:
        """How long the engine has been open."""
        return 0.0 if self._opened_at is None else self._clock() - self._opened_at

    def opened(self) -> None:
        """Note that the engine is open."""
        self._opened_at = self._heard = self._progressed = self._clock()

    def heard(self, steps: int, *, busy: bool) -> None:
        """Note the steps that the child says it has made, and whether we wait for any of them."""
        self._heard = self._clock()
        if not busy or steps != self._steps:
            self._progressed = self._heard
        self._steps = steps

    def complaint(self, unread_tokens: int) -> str | None:
        """Say what is wrong with the child, if anything; to be asked often."""
        now = self._clock()
        gap, self._looked = now - self._looked, now
        if gap > _LONGEST_GAP:
            self._heard += gap
            self._progressed += gap
        silent, still = now - self._heard, now - self._progressed
        if silent > self._hang_seconds * (1 if self.open else _PATIENCE_AT_START):
            return f"it said nothing for {silent:.0f} s"
        allowed = self._hang_seconds * (1 if self._steps else _PATIENCE_AT_START)
        if self.open and still > allowed + unread_tokens * _SECONDS_PER_UNREAD_TOKEN:
            return f"it made no step for {still:.0f} s"
        return None


class Deaths:
    """Counts deaths within the last minute of work: time spent loading does not count."""

    def __init__(self) -> None:
        self._worked = 0.0
        self._times: list[float] = []

    def note(self, worked_seconds: float, *, counts: bool = True) -> int:
        """Note a death after so long of work; return how many count in the last minute."""
        self._worked += worked_seconds
        if counts:
            self._times.append(self._worked)
        self._times = [t for t in self._times if self._worked - t < WITHIN_SECONDS]
        return len(self._times)


def restart_delay(deaths: int) -> float:
    """Return the seconds to wait before the restart after so many deaths."""
    return RESTART_DELAYS[min(max(deaths, 1), len(RESTART_DELAYS)) - 1]
