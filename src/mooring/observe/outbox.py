"""Requests on their way to somebody who may be slow or away: bounded, and never waited for."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from mooring.observe.record import RequestRecord

logger = logging.getLogger(__name__)

Deliver = Callable[[Sequence[RequestRecord]], None]

MOST_WAITING = 1000
CLOSING_SECONDS = 5.0
"""How long the end of a server waits for what is still to be delivered."""


class Outbox:
    """Takes records at once and delivers them, `most` together, from a thread of its own.

    What does not fit among `MOST_WAITING`, and what `deliver` raises for, is given up: `drop` is
    told how many these were.
    """

    def __init__(
        self, name: str, deliver: Deliver, drop: Callable[[int], None], *, most: int = 100
    ) -> None:
        self._name = name
        self._most = most
        self._deliver = deliver
        self._drop = drop
        self._waiting: deque[RequestRecord] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, record: RequestRecord) -> None:
        """Take a record; never waits."""
        with self._changed:
            room = len(self._waiting) < MOST_WAITING and not self._closed
            if room:
                self._waiting.append(record)
                self._changed.notify()
        if not room:
            self._drop(1)

    def close(self) -> None:
        """Take nothing more, and wait up to `CLOSING_SECONDS` until the rest is delivered."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(CLOSING_SECONDS)
        with self._changed:
            left = len(self._waiting)
            self._waiting.clear()
        if left:
            self._drop(left)

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._deliver(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next batch is tried
                self._drop(len(batch))
                self._note_failure(error)
            else:
                self._note_success()

    def _next(self) -> list[RequestRecord]:
        """Wait for records and return some; none once there is nothing more to come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]

    def _note_success(self) -> None:
        if self._failing:
            logger.info("%s are delivered again.", self._name)
        self._failing = False

    def _note_failure(self, error: Exception) -> None:
        """Log the first failure of several in a row."""
        if not self._failing:
            logger.warning("%s cannot be delivered and are given up: %s", self._name, error)
        self._failing = True
