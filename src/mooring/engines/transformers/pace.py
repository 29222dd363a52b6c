"""How many prompt tokens are read beside the rows that run, so that these are not held up."""

import time
from collections.abc import Callable

# Reading may make a step longer by about as long as this many steps take.
_STEPS = 3
# Fewer tokens cost more time each; more would not make it less.
_LEAST, _MOST = 128, 512
# How much one step, or reading `_LEAST` tokens, says about the next.
_WEIGHT = 0.3


class Pace:
    """Learns what a step and a prompt token take, and shares the time between both.

    Where no row runs nobody waits for a step, and reading goes at its full speed.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._step_seconds = 0.0
        self._token_seconds = 0.0

    def budget(self, rows: int) -> int:
        """Return how many prompt tokens may be read while so many rows wait for their next step."""
        seconds = _STEPS * self._step_seconds
        if not rows or seconds > _MOST * self._token_seconds > 0:
            return _MOST
        return max(_LEAST, int(seconds / self._token_seconds)) if self._token_seconds else _LEAST

    def passed(self, rows: int, tokens: int, seconds: float) -> None:
        """Note what it took to give so many rows a token and to read so many tokens."""
        if not tokens:
            self._step_seconds = _learned(self._step_seconds, seconds, _WEIGHT)
            return
        reading = max(0.0, seconds - self._step_seconds) if rows else seconds
        weight = _WEIGHT * min(1.0, tokens / _LEAST)
        self._token_seconds = _learned(self._token_seconds, reading / tokens, weight)


def _learned(known: float, seconds: float, weight: float) -> float:
    """Return what is known once `seconds` were seen; at most twice what was known, as what
    interrupts one step does not interrupt the next.
    """
    return known + weight * (min(seconds, 2 * known) - known) if known else seconds
