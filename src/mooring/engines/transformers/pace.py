"""How many prompt tokens are read between two steps of the rows that run."""

import time
from collections.abc import Callable

# Between two steps reading takes about as long as this many of them.
_STEPS = 3
# Fewer tokens a piece cost more time each; more would not make it less.
_LEAST, _MOST = 128, 512
# What is left of a turn is not worth a piece below this.
_WORTHWHILE = 32
# How much one step, or the longest piece, says about the next.
_WEIGHT = 0.3


class Pace:
    """Learns what a step and a prompt token take, and shares the time between both.

    Where no row runs nobody waits for a step, and reading goes at its full speed.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._step_seconds = 0.0
        self._token_seconds = 0.0

    def stepped(self, seconds: float) -> None:
        """Note what a step took."""
        self._step_seconds = _learned(self._step_seconds, seconds, _WEIGHT)

    def read(self, tokens: int, seconds: float) -> None:
        """Note what a piece of so many tokens took."""
        weight = _WEIGHT * min(1.0, tokens / _LEAST)
        self._token_seconds = _learned(self._token_seconds, seconds / tokens, weight)

    def turn(self, rows: int) -> "Turn":
        """Begin to read while so many rows wait for their next step."""
        if not rows:
            return Turn(self, float("inf"))
        return Turn(self, _STEPS * self._step_seconds)

    def tokens_in(self, seconds: float) -> int:
        """Return how many tokens can be read in that time, at most the most of a turn."""
        if seconds > _MOST * self._token_seconds:
            return _MOST
        return max(0, int(seconds / self._token_seconds)) if self._token_seconds else 0


class Turn:
    """The pieces that are read between two steps, within about so many `seconds`."""

    def __init__(self, pace: Pace, seconds: float) -> None:
        self._pace = pace
        self._seconds = seconds
        self._began = self._now = pace.clock()
        self._read = 0

    @property
    def most(self) -> int:
        """How many tokens the next piece may have; 0 when the rows must go on."""
        tokens = self._pace.tokens_in(self._seconds - (self._now - self._began))
        if not self._read:
            return max(tokens, _LEAST)
        tokens = min(tokens, _MOST - self._read)
        return tokens if tokens >= _WORTHWHILE else 0

    def read(self, tokens: int) -> None:
        """Note that a piece has been read since the last one, or since the turn began."""
        before, self._now = self._now, self._pace.clock()
        self._read += tokens
        self._pace.read(tokens, self._now - before)


def _learned(known: float, seconds: float, weight: float) -> float:
    """Return what is known once `seconds` were seen; at most twice what was known, as what
    interrupts one step does not interrupt the next.
    """
    return known + weight * (min(seconds, 2 * known) - known) if known else seconds
