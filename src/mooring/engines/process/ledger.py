"""The requests an engine has taken and not yet ended, with what was generated for each."""

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mooring.engines.contract import CacheUse, Emit, Load
from mooring.errors import EngineStopped, RequestFailed
from mooring.generation import Event, Failed, Finished, GenerationRequest, Started, Token

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Entry:
    """A request on its way; `unread` until the present child has sent a token for it.

    `running` says that the present child has begun with it, `started` that any child has; `wrote`
    that text was sent of which the tokens are not known.
    """

    request: GenerationRequest
    emit: Emit
    max_tokens: int
    generated: list[int] = field(default_factory=list)
    unread: bool = True
    running: bool = False
    started: bool = False
    wrote: bool = False
    cancelled: bool = False

    def remainder(self) -> GenerationRequest:
        """Return the request that goes on where this one is."""
        done = self.request.generated_ids + tuple(self.generated)
        return replace(self.request, generated_ids=done)

    @property
    def begun(self) -> bool:
        """Whether anything of the answer was sent."""
        return bool(self.generated) or self.wrote

    @property
    def resumable(self) -> bool:
        """Whether another child can go on where this one was."""
        return not self.begun or (not self.wrote and self.request.sampling.repeatable)

    @property
    def complete(self) -> bool:
        """Whether all tokens were sent, and only the end is missing."""
        return len(self.request.generated_ids) + len(self.generated) >= self.max_tokens


class Ledger:
    """Holds entries in order of arrival and sends their events; ends each exactly once.

    Any thread may add, cancel and count; only the engine's own thread sends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}

    def add(self, request: GenerationRequest, emit: Emit, max_tokens: int) -> None:
        """Take a request; raise `RequestFailed` if its id is in use."""
        with self._lock:
            if request.id in self._entries:
                raise RequestFailed(f"Request ids must be unique. Given twice: {request.id}.")
            self._entries[request.id] = Entry(request, emit, max_tokens)

    def cancel(self, request_id: str) -> bool:
        """Send no more tokens for a request; return whether it is known."""
        with self._lock:
            entry = self._entries.get(request_id)
            if entry is not None:
                entry.cancelled = True
            return entry is not None

    def load(self, steps: int, cache: CacheUse = CacheUse()) -> Load:  # noqa: B008 - it is frozen
        """Count: a request runs once the present child has begun with it, and waits before."""
        with self._lock:
            living = [entry for entry in self._entries.values() if not entry.cancelled]
        running = sum(entry.running for entry in living)
        return Load(running, len(living) - running, steps, cache)

    @property
    def busy(self) -> bool:
        """Whether anything has not ended."""
        return bool(self._entries)

    def unread_tokens(self, places: int) -> int:
        """Count the tokens of the prompts that a child with so many places may be reading now."""
        with self._lock:
            entries = list(self._entries.values())[:places]
        return sum(len(entry.request.input_ids) for entry in entries if entry.unread)

    def remainders(self) -> list[GenerationRequest]:
        """Return what a new child has to do, in order, without what was cancelled."""
        with self._lock:
            living = [entry for entry in self._entries.values() if not entry.cancelled]
        for entry in living:
            entry.unread, entry.running = True, False
        return [entry.remainder() for entry in living]

    def record(self, request_id: str, event: Event) -> bool:
        """Note and pass on an event; return whether its receiver still listens."""
        with self._lock:
            entry = self._entries.get(request_id)
            if entry is None or not self._note(entry, event):
                return True
        if entry.cancelled and isinstance(event, Finished):
            event = replace(event, reason="cancelled")
        return self._send(entry, event)

    def _note(self, entry: Entry, event: Event) -> bool:
        """Note an event; return whether its receiver is to have it."""
        if isinstance(event, Started):
            entry.running, again, entry.started = True, entry.started, True
            return not (again or entry.cancelled)
        entry.unread = False
        if isinstance(event, Finished | Failed):
            del self._entries[entry.request.id]
            return True
        if entry.cancelled:
            return False
        entry.running = True
        if isinstance(event, Token):
            entry.generated.append(event.id)
        else:
            entry.wrote = True
        return True

    def settle(self) -> None:
        """End what was cancelled while there was no child to tell."""
        self._end([(e, Finished("cancelled")) for e in self._all() if e.cancelled])

    def survive(self, why: str) -> None:
        """After a death, fail what ran and cannot be repeated, saying `why`; keep the rest."""
        self.settle()
        ends: list[tuple[Entry, Finished | Failed]] = []
        for entry in self._all():
            if entry.complete:
                ends.append((entry, Finished("length")))
            elif not entry.resumable:
                ends.append((entry, Failed(EngineStopped(why))))
        self._end(ends)

    def fail_all(self, why: str) -> None:
        """End everything with `EngineStopped`."""
        self._end([(entry, Failed(EngineStopped(why))) for entry in self._all()])

    def _all(self) -> list[Entry]:
        with self._lock:
            return list(self._entries.values())

    def _end(self, ends: Iterable[tuple[Entry, Finished | Failed]]) -> None:
        for entry, event in ends:
            with self._lock:
                del self._entries[entry.request.id]
            self._send(entry, event)

    def _send(self, entry: Entry, event: Event) -> bool:
        try:
            entry.emit(event)
        except Exception:  # a broken receiver must not stop the others
            logger.exception("A receiver of request %s failed; it is dropped.", entry.request.id)
            with self._lock:
                self._entries.pop(entry.request.id, None)
            return False
        return True
