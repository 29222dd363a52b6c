"""Ask MLflow's server again where that may help: a few times, visibly, and not for minutes."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from mooring.errors import InvalidInput
from mooring.registry import one_request_each, server_failure

RETRIES = 3
ANSWER_SECONDS = 15.0
SLOWEST_BYTES_PER_SECOND = 10_000_000
_LONGEST_PAUSE_SECONDS = 30.0

Note = Callable[[str], None]
"""Told what is worth a line of its own."""

Answer = TypeVar("Answer")


def _not_found() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Retrying:
    """Calls that are made again while the server fails in a way that may pass.

    `answer_seconds` is how long to wait for any answer, where somebody has set that.
    """

    note: Note
    retries: int
    answer_seconds: int | None = None
    _given_up: threading.Event = field(default_factory=threading.Event)

    def __call__(
        self,
        action: str,
        call: Callable[[], Answer],
        found: Callable[[], Answer | None] = _not_found,
    ) -> Answer:
        """Return what `call` returns; `action` completes "could not ...".

        An answer may be lost although the server did what was asked. So before a second attempt
        `found` looks for that, and its answer counts.
        """
        for retry in range(self.retries + 1):
            try:
                earlier = found() if retry else None
                return call() if earlier is None else earlier
            except Exception as error:
                reason = server_failure(error)
                if reason is None or not reason.passing or retry == self.retries:
                    raise
                seconds = min(2.0**retry, _LONGEST_PAUSE_SECONDS)
                self.note(
                    f"The tracking server {reason}; could not {action}. Trying again in "
                    f"{seconds:g} s, attempt {retry + 2} of {self.retries + 1}."
                )
                if self._given_up.wait(seconds):
                    raise
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def time_to_upload(self, largest_bytes: int) -> Iterator[None]:
        """Wait longer for answers in the block: a server may answer only once a file is stored."""
        seconds = ANSWER_SECONDS + largest_bytes / SLOWEST_BYTES_PER_SECOND
        with one_request_each(self.answer_seconds or seconds):
            yield

    def give_up(self) -> None:
        """Make no more attempts: for calls in other threads once one has failed for good."""
        self._given_up.set()


@contextmanager
def retrying(note: Note) -> Iterator[Retrying]:
    """Have MLflow fail within seconds in the block, and retry in plain sight.

    MLFLOW_HTTP_REQUEST_MAX_RETRIES and MLFLOW_HTTP_REQUEST_TIMEOUT (seconds) go before the limits
    of this file. Raises `InvalidInput` where they are no numbers.
    """
    retries = _setting("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    seconds = _setting("MLFLOW_HTTP_REQUEST_TIMEOUT")
    with one_request_each(ANSWER_SECONDS if seconds is None else seconds):
        yield Retrying(note, RETRIES if retries is None else retries, seconds)


def _setting(name: str) -> int | None:
    text = os.environ.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise InvalidInput(
            f"{name} must be a whole number. Given: {text[:40]!r}. Change or unset it."
        )
    return int(text)
