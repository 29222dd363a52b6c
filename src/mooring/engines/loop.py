"""The loop of an in-process engine: one thread that schedules, steps and keeps the contract."""

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import Future

from mooring.engines.admission import check_request
from mooring.engines.contract import CacheUse, Capabilities, Emit, Load
from mooring.engines.sequence import Sequence
from mooring.errors import EngineError, EngineStopped, OutOfMemory, RequestFailed
from mooring.generation import Failed, Finished, GenerationRequest

logger = logging.getLogger(__name__)

GATHER_SECONDS = 0.003


class EngineLoop(ABC):
    """An `Engine` whose sequences are stepped by one thread of this process.

    A subclass opens its model, makes one step for all its sequences, and frees the model; it
    forgets a sequence once it has `ended`. All of that is done in the engine's thread: OpenMP keeps
    a pool for each thread that calls it, and a second pool makes every step of the first slower.
    An idle engine waits `GATHER_SECONDS` after a first request, so that requests sent together
    start together.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sequences: dict[str, Sequence] = {}
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._steps = 0
        self._places = 0
        self._capabilities: Capabilities | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    @abstractmethod
    def _open(self) -> Capabilities:
        """Load the model; raise a `MooringError` if that fails."""

    @abstractmethod
    def _step(self, joining: list[Sequence]) -> None:
        """Take in `joining`, then generate one token for every sequence that has not ended."""

    @abstractmethod
    def _free(self) -> None:
        """Let go of the model."""

    def _cache_use(self) -> CacheUse:
        """Say how full the cache is, for an engine that has one; called from any thread."""
        return CacheUse()

    def start(self) -> Capabilities:
        """Load the model and begin to run; raise a `MooringError` if either fails."""
        opened: Future[Capabilities] = Future()
        threading.Thread(target=self._live, args=(opened,), name="engine", daemon=True).start()
        try:
            return opened.result()
        except BaseException:  # an interrupt too: who waits no longer wants no engine
            self.close()
            raise

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        """Queue one sequence; raise `EngineStopped`, or `InvalidInput` if it could only fail."""
        capabilities = self._capabilities
        if capabilities is None:
            raise _stopped()
        sequence = Sequence(request, emit, check_request(request, capabilities))
        with self._changed:
            if self._stopping:
                raise _stopped()
            same = self._sequences.get(request.id)
            if same is not None and not same.ended:
                raise RequestFailed(f"Request ids must be unique. Given twice: {request.id}.")
            self._sequences[request.id] = sequence
            self._waiting.append(sequence)
            self._changed.notify()

    def cancel(self, request_id: str) -> None:
        """End a sequence within one step with `Finished("cancelled")`."""
        with self._changed:
            sequence = self._sequences.get(request_id)
            if sequence is not None:
                sequence.cancelled = True

    def load(self) -> Load:
        """Count what runs and what waits."""
        with self._changed:
            running = sum(not sequence.ended for sequence in self._running)
            return Load(running, len(self._waiting), self._steps, self._cache_use())

    def close(self) -> None:
        """End all sequences with `Failed(EngineStopped)` and free the model."""
        with self._changed:
            self._stopping = True
            thread = self._thread
            self._changed.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _live(self, opened: Future[Capabilities]) -> None:
        """Open, loop and free."""
        try:
            capabilities = self._open()
        except BaseException as error:  # noqa: BLE001 - raised where `start` waits
            opened.set_exception(error)
            return
        with self._changed:
            stopped = self._stopping
            if not stopped:
                self._capabilities, self._places = capabilities, capabilities.max_running
                self._thread = threading.current_thread()
        if stopped:
            self._free()
            opened.set_exception(_stopped())
            return
        opened.set_result(capabilities)
        self._loop()

    def _loop(self) -> None:
        try:
            while not self._stopping:
                joining = self._schedule()
                if self._running:
                    self._step_safely(joining)
                    self._steps += 1
                self._settle()
        finally:
            self._end_all()
            self._free()

    def _schedule(self) -> list[Sequence]:
        """Wait for work; end what was cancelled; return the sequences that join now."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._sequences)
            if not self._running:
                self._changed.wait_for(self._is_full, timeout=GATHER_SECONDS)
            cancelled = [s for s in self._sequences.values() if s.cancelled]
            self._waiting = deque(s for s in self._waiting if not s.cancelled)
            self._running = [s for s in self._running if not s.cancelled]
            free = min(len(self._waiting), self._places - len(self._running))
            joining = [self._waiting.popleft() for _ in range(free)]
            self._running += joining
        for sequence in cancelled:
            sequence.end(Finished("cancelled", sequence.cached_tokens))
        return joining

    def _is_full(self) -> bool:
        return self._stopping or len(self._waiting) >= self._places

    def _step_safely(self, joining: list[Sequence]) -> None:
        try:
            self._step(joining)
        except Exception as error:  # the loop must outlive any step
            logger.exception("An engine step failed; its requests fail.")
            for sequence in self._running:
                sequence.end(Failed(step_failed(error)))

    def _settle(self) -> None:
        """Forget the sequences that have ended."""
        with self._changed:
            self._running = [s for s in self._running if not s.ended]
            self._sequences = {id: s for id, s in self._sequences.items() if not s.ended}

    def _end_all(self) -> None:
        with self._changed:
            self._stopping = True
            remaining = list(self._sequences.values())
            self._sequences, self._running = {}, []
            self._waiting.clear()
        for sequence in remaining:
            sequence.end(Failed(_stopped()))


def step_failed(error: Exception | None = None) -> EngineError:
    """Return the error of a request whose step raised `error`; the log has the details."""
    if error is not None and _is_lack_of_memory(error):
        return OutOfMemory(
            "There was no memory to generate this answer. Send it again, with a shorter prompt or "
            "when fewer requests run."
        )
    return RequestFailed(
        "The model failed while generating this answer. Try again; if it fails again, "
        "the server's log says why."
    )


def _is_lack_of_memory(error: Exception) -> bool:
    """Say whether Python, a device or torch's allocator on the CPU had no memory."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"MemoryError", "OutOfMemoryError"}) or "allocate memory" in str(error)


def _stopped() -> EngineStopped:
    return EngineStopped("The engine is not running. Send the request again once it is.")
