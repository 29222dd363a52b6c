"""The requests an engine has taken and not yet ended, with what was generated for each."""

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mooring.engines.contract import CacheUse, Emit, Load
from mooring.errors import EngineStopped, RequestFailed
from mooring.generation import (
    Event,
    Failed,
    Finished,
    GenerationRequest,
    PromptRead,
    Started,
    Text,
    Token,
)

logger = logging.getLogger(__name__)

# So many tokens further than it was at a death, a request is not what the engine died of. The last
# few tokens before a death may have been lost with it.
_ACQUITTED_AFTER = 4


@dataclass(slots=True)
class Entry:
    """A request on its way.

    `handed` says that the present child has it, `running` that this child has begun with it,
    `unread` that it has sent no token for it, and `started` that any child has begun; `wrote` that
    text was sent of which the tokens are not known, `told_prompt` that the prompt's
    log-probabilities were sent. `deaths` counts the children that died while it ran, and `suspect`
    says that it may be why, until the present child has gone on for a while.
    """

    request: GenerationRequest
    emit: Emit
    max_tokens: int
    generated: list[int] = field(default_factory=list)
    handed: bool = False
    unread: bool = True
    running: bool = False
    started: bool = False
    wrote: bool = False
    told_prompt: bool = False
    cancelled: bool = False
    deaths: int = 0
    suspect: bool = False
    events: int = 0

    def remainder(self) -> GenerationRequest:
        """Return the request that goes on where this one is."""
        done = self.request.generated_ids + tuple(self.generated)
        logprobs = self.request.logprobs
        if self.told_prompt:
            logprobs = replace(logprobs, prompt=None)
        return replace(self.request, generated_ids=done, logprobs=logprobs)

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
        owes_prompt = self.request.logprobs.prompt is not None and not self.told_prompt
        done = len(self.request.generated_ids) + len(self.generated)
        return done >= self.max_tokens and not owes_prompt


class Ledger:
    """Holds entries in order of arrival and sends their events; ends each exactly once.

    After a death what ran begins again one by one, each once the one before has gone on for a
    while, and only then the rest: what kills a child again while it is the only one in doubt fails.
    Any thread may add, cancel and count; only the engine's own thread sends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._on_trial: Entry | None = None
        self._doubts = False

    def add(self, request: GenerationRequest, emit: Emit, max_tokens: int) -> None:
        """Take a request; raise `RequestFailed` if its id is in use."""
        with self._lock:
            if request.id in self._entries:
                raise RequestFailed(f"Request ids must be unique. Given twice: {request.id}.")
            self._entries[request.id] = Entry(request, emit, max_tokens)

    def cancel(self, request_id: str) -> bool:
        """Send no more tokens for a request; return whether the child has to be told."""
        with self._lock:
            entry = self._entries.get(request_id)
            if entry is None:
                return False
            entry.cancelled = True
            return entry.handed

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
            handed = [entry for entry in self._entries.values() if entry.handed][:places]
        return sum(len(entry.request.input_ids) for entry in handed if entry.unread)

    @property
    def explains(self) -> bool:
        """Whether only one request is in doubt now: if the child dies, it was that one."""
        return self._on_trial is not None

    @property
    def overdue(self) -> bool:
        """Whether more is due though nothing was added."""
        return self._doubts and self._on_trial is None

    def start_over(self) -> None:
        """Note that there is a new child, which has nothing yet."""
        with self._lock:
            self._on_trial = None
            for entry in self._entries.values():
                entry.handed, entry.unread, entry.running, entry.events = False, True, False, 0

    def due(self) -> list[GenerationRequest]:
        """Return what the child is to be given now, in order: all, or the next that is in doubt."""
        with self._lock:
            living = [entry for entry in self._entries.values() if not entry.cancelled]
            suspects = [entry for entry in living if entry.suspect]
            self._doubts = bool(suspects)
            self._on_trial = suspects[0] if suspects else None
            due = [entry for entry in suspects[:1] or living if not entry.handed]
            for entry in due:
                entry.handed = True
        return [entry.remainder() for entry in due]

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
        entry.events += 1
        ends = isinstance(event, Finished | Failed)
        if entry is self._on_trial and (ends or entry.events >= _ACQUITTED_AFTER):
            entry.suspect, self._on_trial = False, None
        if ends:
            del self._entries[entry.request.id]
            return True
        if entry.cancelled:
            return False
        entry.running = True
        match event:
            case Token(id):
                entry.generated.append(id)
            case PromptRead():
                entry.told_prompt = True
            case Text():
                entry.wrote = True
        return True

    def settle(self) -> None:
        """End what was cancelled and is with no child that could be told."""
        cancelled = [e for e in self._all() if e.cancelled and not e.handed]
        self._end([(entry, Finished("cancelled")) for entry in cancelled])

    def let_go(self, request_id: str) -> None:
        """End a request that was cancelled and that the child has let go of without a word."""
        with self._lock:
            entry = self._entries.get(request_id)
        if entry is not None and entry.cancelled:
            self._end([(entry, Finished("cancelled"))])

    def survive(self, why: str, places: int) -> None:
        """After a death, fail what ran and cannot be repeated, saying `why`; keep the rest.

        The child had so many places. If only one request was in doubt, that one fails as well.
        """
        culprit = self._on_trial
        ran = [entry for entry in self._all() if entry.handed][:places]
        self.start_over()
        self.settle()
        for entry in ran:
            entry.deaths += 1
            entry.suspect = True
        ends: list[tuple[Entry, Finished | Failed]] = []
        for entry in self._all():
            if entry is culprit:
                ends.append((entry, Failed(_killed(entry.deaths))))
            elif entry.complete:
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
                if entry is self._on_trial:
                    self._on_trial = None
            self._send(entry, event)

    def _send(self, entry: Entry, event: Event) -> bool:
        try:
            entry.emit(event)
        except Exception:  # a broken receiver must not stop the others
            logger.exception("A receiver of request %s failed; it is dropped.", entry.request.id)
            with self._lock:
                self._entries.pop(entry.request.id, None)
                if entry is self._on_trial:
                    self._on_trial = None
            return False
        return True


def _killed(times: int) -> RequestFailed:
    return RequestFailed(
        f"The engine died {times} times while it generated this answer, at last of it alone. It is "
        "not tried again. Change the request before you send it again."
    )
