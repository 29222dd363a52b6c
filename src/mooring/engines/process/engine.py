"""An engine in a child process, started again when it dies or hangs, with its requests replayed."""

import logging

from mooring.engines.contract import Capabilities, EngineObserver, Load
from mooring.engines.description import EngineDescription
from mooring.engines.loop import step_failed
from mooring.engines.process.handle import CLOSE_SECONDS, ChildDied, ChildProcess
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
from mooring.engines.process.supervised import LOOK_SECONDS, SupervisedEngine
from mooring.engines.process.watch import Watch
from mooring.errors import EngineStopped, MooringError
from mooring.generation import Event, Failed, GenerationRequest, Token

logger = logging.getLogger(__name__)


class ProcessEngine(SupervisedEngine):
    """The `Engine` that `description` says, in a supervised child process of our own."""

    def __init__(
        self, description: EngineDescription, observer: EngineObserver | None = None
    ) -> None:
        super().__init__(description.settings.hang_seconds, observer)
        self._description = description
        self._child: ChildProcess | None = None

    def _hand_over(self, request: GenerationRequest) -> None:
        if self._child is not None:
            self._child.send(Submit(request))

    def _withdraw(self, request_id: str) -> None:
        if self._child is not None:
            self._child.send(Cancel(request_id))

    def _live_once(self, watch: Watch) -> None:
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
            for report in child.receive(LOOK_SECONDS):
                self._take(report, child, watch)
            self._ledger.settle()
            places = self._capabilities.max_running if self._capabilities else 0
            complaint = watch.complaint(self._ledger.unread_tokens(places))
            if complaint is not None:
                raise ChildDied(complaint)

    def _take(self, report: Report, child: ChildProcess, watch: Watch) -> None:
        match report:
            case Opened(capabilities):
                watch.opened()
                self._adopt(child, capabilities)
            case Refused(trouble):
                self._refused(error_of(trouble))
            case Heartbeat(load):
                self._hear(load, watch)
            case Events(load, events):
                self._hear(load, watch)
                for request_id, data in events:
                    if not self._pass_on(request_id, unpack(data)):
                        child.send(Cancel(request_id))
            case Logged(name, level, text):
                logging.getLogger(name).log(level, "%s", text)

    def _adopt(self, child: ChildProcess, capabilities: Capabilities) -> None:
        with self._lock:
            self._child = child
            self._resume(capabilities)
        self._announce(capabilities)

    def _refused(self, error: MooringError) -> None:
        if not self._started.done():
            raise error
        raise ChildDied(f"it could not load the model again: {error.message}")

    def _hear(self, load: Load, watch: Watch) -> None:
        watch.heard(load.steps, busy=self._ledger.busy)
        self._steps, self._cache = load.steps, load.cache

    def _pass_on(self, request_id: str, event: Event) -> bool:
        """Send an event to its receiver; return whether the child may go on with its request."""
        if isinstance(event, Failed) and isinstance(event.error, EngineStopped):
            raise ChildDied("its engine stopped by itself")
        if isinstance(event, Token) and not self._is_token(event.id):
            logger.error("The engine gave a token that the model does not have: %d.", event.id)
            super()._pass_on(request_id, Failed(step_failed()))
            return False
        return super()._pass_on(request_id, event)

    def _is_token(self, token_id: int) -> bool:
        assert self._capabilities is not None
        return 0 <= token_id < self._capabilities.vocabulary_size
