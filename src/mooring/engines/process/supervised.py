"""What engines in another process have in common: they die, come back, and keep their requests."""

import logging
import threading
from abc import ABC, abstractmethod
from concurrent.futures import Future

from mooring.engines.admission import check_request
from mooring.engines.contract import CacheUse, Capabilities, Emit, EngineObserver, Load
from mooring.engines.process.handle import ChildDied
from mooring.engines.process.ledger import Ledger
from mooring.engines.process.watch import (
    MOST_DEATHS,
    WITHIN_SECONDS,
    Deaths,
    Watch,
    restart_delay,
)
from mooring.errors import EngineStopped, MooringError
from mooring.generation import Event, GenerationRequest

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.1


class SupervisedEngine(ABC):
    """An `Engine` whose tokens come from a process that may die and is started again then.

    Requests that wait stay; those that run go on with the same tokens if they are greedy or seeded
    and their tokens are known, else they fail with `EngineStopped`. They begin again one by one, so
    that one which kills the process again is known, and fails alone; that death does not count.
    After `MOST_DEATHS` in a minute of work all fail, and so does every later one. One thread of
    this process, named `engine`, lives with the other process and calls the receivers.
    """

    def __init__(self, hang_seconds: float, observer: EngineObserver | None) -> None:
        self._hang_seconds = hang_seconds
        self._observer = observer
        self._ledger = Ledger()
        self._deaths = Deaths()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._started: Future[Capabilities] = Future()
        self._why_stopped = "The engine is not running. Send the request again once it is."
        self._capabilities: Capabilities | None = None
        self._has_process = False
        self._steps_before = self._steps = 0
        self._preemptions_before = 0
        self._cache = CacheUse()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def _live_once(self, watch: Watch) -> None:
        """Start the process and stay with it until it dies (`ChildDied`) or this engine closes."""

    @abstractmethod
    def _hand_over(self, request: GenerationRequest) -> None:
        """Give a request to the process, if there is one now; called with the lock held."""

    @abstractmethod
    def _withdraw(self, request_id: str) -> None:
        """Let the process give a request up, if there is one now; called with the lock held."""

    def start(self) -> Capabilities:
        """Start the process and load the model in it; raise what loading there raises."""
        with self._lock:
            if self._closing.is_set():
                raise EngineStopped(self._why_stopped)
            self._thread = threading.Thread(target=self._live, name="engine", daemon=True)
            self._thread.start()
        return self._started.result()

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        """Queue one sequence; raise `EngineStopped`, or `InvalidInput` if it could only fail."""
        if self._capabilities is None:
            raise EngineStopped(self._why_stopped)
        max_tokens = check_request(request, self._capabilities)
        with self._lock:
            if self._closing.is_set():
                raise EngineStopped(self._why_stopped)
            self._ledger.add(request, emit, max_tokens)
            self._hand_over_due()

    def cancel(self, request_id: str) -> None:
        """Send no more tokens, and `Finished("cancelled")` once the process has let go."""
        with self._lock:
            if self._ledger.cancel(request_id):
                self._withdraw(request_id)

    def load(self) -> Load:
        """Count what runs and what waits now, and all steps and preemptions there ever were."""
        preemptions = self._preemptions_before + self._cache.preemptions
        cache = CacheUse(self._cache.used, preemptions)
        return self._ledger.load(self._steps_before + self._steps, cache)

    def close(self) -> None:
        """End all sequences with `Failed(EngineStopped)`, and the process."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _live(self) -> None:
        try:
            while not self._closing.is_set():
                watch = Watch(self._hang_seconds)
                try:
                    self._live_once(watch)
                except ChildDied as death:
                    with self._lock:
                        self._has_process = False
                    self._mourn(str(death), watch.worked_seconds)
        except MooringError as error:
            self._started.set_exception(error)
        finally:
            self._end()

    def _resume(self, capabilities: Capabilities) -> None:
        """Give a process that is ready all there is to do; called with the lock held."""
        self._capabilities = capabilities
        self._has_process = True
        self._ledger.start_over()
        self._hand_over_due()

    def _hand_over_due(self) -> None:
        """Give the process what it is to do now, if there is one; called with the lock held."""
        if self._has_process:
            for request in self._ledger.due():
                self._hand_over(request)

    def _announce(self, capabilities: Capabilities) -> None:
        """Say that the engine runs, for the first time or again."""
        self._ledger.settle()
        if not self._started.done():
            self._started.set_result(capabilities)
            return
        logger.info("The engine is back.")
        if self._observer is not None:
            self._observer.engine_restarted()

    def _pass_on(self, request_id: str, event: Event) -> bool:
        """Send an event to its receiver; return whether it still listens."""
        if self._closing.is_set():
            return True
        listens = self._ledger.record(request_id, event)
        if self._ledger.overdue:
            with self._lock:
                self._hand_over_due()
        return listens

    def _mourn(self, cause: str, worked_seconds: float) -> None:
        """After a death, fail what cannot be repeated and wait for the restart, or give up."""
        deaths = self._deaths.note(worked_seconds, counts=not self._ledger.explains)
        self._steps_before, self._steps = self._steps_before + self._steps, 0
        self._preemptions_before += self._cache.preemptions
        self._cache = CacheUse()
        if deaths >= MOST_DEATHS:
            self._give_up(f"The engine died {deaths} times in {WITHIN_SECONDS:.0f} s: {cause}.")
            return
        delay = restart_delay(deaths)
        logger.warning("The engine died: %s. It is started again in %g s.", cause, delay)
        if self._observer is not None and self._started.done():
            self._observer.engine_restarting()
        self._ledger.survive(
            "The engine died while it generated this answer, which without a seed cannot be "
            "repeated. Send the request again.",
            self._capabilities.max_running if self._capabilities else 0,
        )
        self._closing.wait(delay)

    def _give_up(self, why: str) -> None:
        with self._lock:
            self._why_stopped = why
            self._closing.set()
        if self._observer is not None and self._started.done():
            self._observer.engine_failed(EngineStopped(why))

    def _end(self) -> None:
        if self._capabilities is not None and not self._closing.is_set():
            self._give_up("The watch over the engine failed. The log says why.")
        with self._lock:
            self._closing.set()
        if not self._started.done():
            self._started.set_exception(EngineStopped(self._why_stopped))
        self._ledger.fail_all(self._why_stopped)
