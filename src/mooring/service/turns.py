"""Whose turn it is: the engine gets as many sequences as it can run, the others wait here."""

from collections import Counter
from collections.abc import Callable, Sequence

from mooring.engines.contract import Emit, Engine
from mooring.errors import EngineError, MooringError
from mooring.generation import Failed, Finished, GenerationRequest
from mooring.service.admission import Place
from mooring.service.fair_queue import FairQueue, Waiting

Measure = Callable[[Waiting], int]


class Turns:
    """Hands sequences to an engine in a fair order. Used from one event loop only.

    `running` is how many the engine runs side by side; it has some more at hand, so that it never
    waits for this queue. A sequence that the engine refuses once its turn has come fails.
    """

    def __init__(self, engine: Engine, running: int) -> None:
        self._engine = engine
        self._running = running
        self._most = running + max(1, running // 4)
        self._queue = FairQueue()
        self._handed: dict[str, Waiting] = {}

    @property
    def waiting(self) -> int:
        """Count what the engine has not been given yet."""
        return len(self._queue)

    def may_run(self, request_id: str) -> bool:
        """Return whether a sequence may be running: engines begin in the order of submission."""
        return request_id in list(self._handed)[: self._running]

    def submit(self, request: GenerationRequest, emit: Emit, place: Place) -> None:
        """Take a sequence with its place; the engine gets it now, or when its turn has come.

        Raises what the engine raises that gets it now; the place is free again then.
        """
        self._queue.push(Waiting(request, emit, place))
        if len(self._handed) < self._most:
            self._hand_over(self._queue.pop())

    def cancel(self, request_id: str) -> None:
        """Give a sequence up; it ends with `Finished("cancelled")`."""
        waiting = self._queue.remove(request_id)
        if waiting is None:
            self._engine.cancel(request_id)
        else:
            waiting.place.release()
            waiting.emit(Finished("cancelled"))

    def end(self, request_id: str, generated: int) -> None:
        """Note that a sequence has ended after so many tokens, and let others in."""
        ended = self._handed.pop(request_id, None)
        if ended is None:
            return
        ended.place.release()
        self._queue.charge_generated(ended, generated)
        while len(self._queue) and len(self._handed) < self._most:
            waiting = self._queue.pop()
            try:
                self._hand_over(waiting)
            except MooringError as error:
                waiting.emit(Failed(error))

    def yield_to(self, caller: str, places: int, tokens: int, error: EngineError) -> bool:
        """Make room for so many more of a caller's, if that is fair; return whether it was.

        Whoever has most waiting gives up, with `error`, what came last, as long as that leaves them
        no less than the caller would have: first by places, then by tokens. Where there is no room
        then, nobody gives anything up.
        """
        staying = sorted(self._queue, key=lambda waiting: waiting.place.call)
        given_up: list[Waiting] = []
        for need, measure in ((places, _one), (tokens, _prompt_tokens)):
            rest = need - sum(map(measure, given_up))
            more = _last_of_most(staying, caller, rest, measure)
            if more is None:
                return False
            given_up += more
            staying = [waiting for waiting in staying if waiting not in more]
        for waiting in given_up:
            self._queue.remove(waiting.request.id)
            waiting.place.forfeit()
            waiting.emit(Failed(error))
        return True

    def _hand_over(self, waiting: Waiting) -> None:
        try:
            self._engine.submit(waiting.request, waiting.emit)
        except MooringError:
            waiting.place.release()
            raise
        self._handed[waiting.request.id] = waiting


def _last_of_most(
    queue: Sequence[Waiting], caller: str, need: int, measure: Measure
) -> list[Waiting] | None:
    """Choose `need` of the queue, by `measure`, of who has most; None where that is unfair."""
    held: Counter[str] = Counter()
    lasts: dict[str, list[Waiting]] = {}
    for waiting in queue:
        held[waiting.caller] += measure(waiting)
        lasts.setdefault(waiting.caller, []).append(waiting)
    own = held.pop(caller, 0) + need
    chosen: list[Waiting] = []
    while need > 0:
        most = max(held, key=held.__getitem__, default=caller)
        if held[most] <= own:
            return None
        chosen.append(lasts[most].pop())
        size = measure(chosen[-1])
        held[most] -= size
        need -= size
    return chosen


def _one(waiting: Waiting) -> int:
    return 1


def _prompt_tokens(waiting: Waiting) -> int:
    return waiting.tokens
