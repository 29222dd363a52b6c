"""How long an answer may take: to its first token, from token to token, and as a whole."""

import asyncio
import math
from collections.abc import Callable

from mooring.settings import ServiceLimits

GiveUp = Callable[[str], None]


class Patience:
    """Watches one stream with one timer, however many tokens it has."""

    def __init__(self, limits: ServiceLimits) -> None:
        self._limits = limits
        self._began = 0.0
        self._latest: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def start(self, loop: asyncio.AbstractEventLoop, give_up: GiveUp) -> None:
        """Begin to watch; `give_up` is called once, with what took too long."""
        self._loop = loop
        self._give_up = give_up
        self._began = loop.time()
        self._look()

    def note_progress(self, now: float) -> None:
        """Note that a token has come, or an end, at the loop's time `now`."""
        first = self._latest is None
        self._latest = now
        if first and self._timer is not None:
            # The next deadline may come before the one that the timer was set for.
            self._timer.cancel()
            self._look()

    def stop(self) -> None:
        """Watch no longer; may be called again."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._stopped:
            return
        ends, message = min(self._whole(), self._next())
        if ends <= self._loop.time():
            self.stop()
            self._give_up(message)
        elif ends < math.inf:
            self._timer = self._loop.call_at(ends, self._look)

    def _whole(self) -> tuple[float, str]:
        seconds = self._limits.request_seconds
        return self._began + seconds, f"The answer must be whole within {seconds:g} s."

    def _next(self) -> tuple[float, str]:
        if self._latest is None:
            seconds = self._limits.first_token_seconds
            return self._began + seconds, f"The first token must come within {seconds:g} s."
        seconds = self._limits.token_seconds
        return self._latest + seconds, f"The next token must come within {seconds:g} s."
