"""An engine in a child process, started again when it dies or hangs, with its requests replayed."""

import logging
import threading
from concurrent.futures import Future

from mooring.engines.admission import check_request
from mooring.engines.contract import Capabilities, Emit, EngineObserver, Load
from mooring.engines.description import EngineDescription
from mooring.engines.loop import step_failed
from mooring.engines.process.handle import CLOSE_SECONDS, ChildDied, ChildProcess
from mooring.engines.process.ledger import Ledger
from mooring.engines.process.messages import (
    Cancel,
    Events,
    Heartbeat,
    Logged,
    Open,
    Opened,
    Refused,
    Report,
    Submit,
    error_of,
    unpack,
)
from mooring.engines.process.watch import (
    MOST_DEATHS,
    WITHIN_SECONDS,
    Deaths,
    Watch,
    restart_delay,
)
from mooring.errors import EngineStopped, MooringError
from mooring.generation import Event, Failed, GenerationRequest, Token

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1


class ProcessEngine:
    """The `Engine` that `description` says, in a supervised child process.

    When the child dies or hangs it is started again. Requests that wait stay; those that run go on
    with the same tokens if they are greedy or seeded, else they fail with `EngineStopped`. After
    `MOST_DEATHS` in a minute of work all fail, and so does every later one. One thread of this
    process, named `engine`, starts the child, watches it and calls the receivers.
    """

    def __init__(
        self, description: EngineDescription, observer: EngineObserver | None = None
    ) -> None:
        self._description = description
        self._observer = observer
        self._ledger = Ledger()
        self._deaths = Deaths()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._started: Future[Capabilities] = Future()
        self._why_stopped = "The engine is not running. Send the request again once it is."
        self._child: ChildProcess | None = None
        self._capabilities: Capabilities | None = None
        self._steps_before = self._steps = 0
        self._thread: threading.Thread | None = None

    def start(self) -> Capabilities:
        """Start the child and load the model in it; raise what loading there raises."""
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
            if self._child is not None:
                self._child.send(Submit(request))

    def cancel(self, request_id: str) -> None:
        """Send no more tokens, and `Finished("cancelled")` once the child has let go."""
        with self._lock:
            if self._ledger.cancel(request_id) and self._child is not None:
                self._child.send(Cancel(request_id))

    def load(self) -> Load:
        """Count what runs, which is what has a token, and what waits; and all children's steps."""
        return self._ledger.load(self._steps_before + self._steps)

    def close(self) -> None:
        """End all sequences with `Failed(EngineStopped)`, and the child."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _live(self) -> None:
        try:
            while not self._closing.is_set():
                watch = Watch(self._description.settings.hang_seconds)
                try:
                    self._run_child(watch)
                except ChildDied as death:
                    self._mourn(str(death), watch.worked_seconds)
        except MooringError as error:
            self._started.set_exception(error)
        finally:
            self._end()

    def _run_child(self, watch: Watch) -> None:
        """Start a child and stay with it until it dies (`ChildDied`) or this engine closes."""
        child = ChildProcess()
        try:
            child.send(Open(self._description, watch.heartbeat_seconds))
            self._attend(child, watch)
        finally:
            with self._lock:
                self._child = None
            closing = self._closing.is_set()
            if closing:
                self._ledger.fail_all(self._why_stopped)
            child.end(grace=CLOSE_SECONDS if closing and watch.open else 0)

    def _attend(self, child: ChildProcess, watch: Watch) -> None:
        while not self._closing.is_set():
            for report in child.receive(_LOOK_SECONDS):
                self._take(report, child, watch)
            if not watch.open:
                self._ledger.settle()
            places = self._capabilities.max_running if self._capabilities else 0
            complaint = watch.complaint(self._ledger.unread_tokens(places))
            if complaint is not None:
                raise ChildDied(complaint)

    def _take(self, report: Report, child: ChildProcess, watch: Watch) -> None:
        match report:
            case Opened(capabilities):
                watch.opened()
                self._open(child, capabilities)
            case Refused(trouble):
                self._refused(error_of(trouble))
            case Heartbeat(load):
                self._hear(load, watch)
            case Events(load, events):
                self._hear(load, watch)
                for request_id, data in events:
                    self._pass_on(child, request_id, unpack(data))
            case Logged(name, level, text):
                logging.getLogger(name).log(level, "%s", text)

    def _open(self, child: ChildProcess, capabilities: Capabilities) -> None:
        """Give a child that is ready all there is to do."""
        with self._lock:
            self._capabilities = capabilities
            self._child = child
            for request in self._ledger.remainders():
                child.send(Submit(request))
        self._ledger.settle()
        if not self._started.done():
            self._started.set_result(capabilities)
            return
        logger.info("The engine is back.")
        if self._observer is not None:
            self._observer.engine_restarted()

    def _refused(self, error: MooringError) -> None:
        if not self._started.done():
            raise error
        raise ChildDied(f"it could not load the model again: {error.message}")

    def _hear(self, load: Load, watch: Watch) -> None:
        watch.heard(load.steps, busy=self._ledger.busy)
        self._steps = load.steps

    def _pass_on(self, child: ChildProcess, request_id: str, event: Event) -> None:
        if self._closing.is_set():
            return
        if isinstance(event, Failed) and isinstance(event.error, EngineStopped):
            raise ChildDied("its engine stopped by itself")
        if isinstance(event, Token) and not self._is_token(event.id):
            logger.error("The engine gave a token that the model does not have: %d.", event.id)
            event = Failed(step_failed())
            child.send(Cancel(request_id))
        if not self._ledger.record(request_id, event):
            child.send(Cancel(request_id))

    def _is_token(self, token_id: int) -> bool:
        assert self._capabilities is not None
        return 0 <= token_id < self._capabilities.vocabulary_size

    def _mourn(self, cause: str, worked_seconds: float) -> None:
        """After a death, fail what cannot be repeated and wait for the restart, or give up."""
        deaths = self._deaths.note(worked_seconds)
        self._steps_before, self._steps = self._steps_before + self._steps, 0
        if deaths >= MOST_DEATHS:
            self._give_up(f"The engine died {deaths} times in {WITHIN_SECONDS:.0f} s: {cause}.")
            return
        delay = restart_delay(deaths)
        logger.warning("The engine died: %s. It is started again in %g s.", cause, delay)
        if self._observer is not None and self._started.done():
            self._observer.engine_restarting()
        self._ledger.survive(
            "The engine died while it generated this answer, which without a seed cannot be "
            "repeated. Send the request again."
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
