"""What waits, in a fair order: callers share alike, and prompts wait by their length."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mooring.engines.contract import Emit
from mooring.generation import GenerationRequest
from mooring.service.admission import Place

# What a generated token counts for, beside one that is only read.
_WEIGHT_OF_GENERATED = 2


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A sequence that waits for its turn, or has had it; `emit` takes its events."""

    request: GenerationRequest
    emit: Emit
    place: Place

    @property
    def caller(self) -> str:
        """Whose it is."""
        return self.place.caller

    @property
    def since(self) -> float:
        """Since when it waits, by the admission's clock."""
        return self.place.since

    @property
    def tokens(self) -> int:
        """Count the tokens of the prompt."""
        return len(self.request.prompt_ids)

    @property
    def size(self) -> int:
        """Return the class of the prompt's length, each up to eight times as long as the last."""
        return self.tokens.bit_length() // 3


class Shares:
    """What each caller has used; the one that has used least goes next.

    One that comes back begins where those are that are served now: being away saves nothing up.
    """

    def __init__(self) -> None:
        self._used: dict[str, int] = {}
        self._now = 0

    def enter(self, caller: str) -> None:
        """Note that a caller has begun to wait."""
        self._used[caller] = max(self._used.get(caller, 0), self._now)

    def next(self, callers: Iterable[str]) -> str:
        """Choose among callers that have entered; the first of equals."""
        chosen = min(callers, key=self._used.__getitem__)
        self._now = max(self._now, self._used[chosen])
        return chosen

    def charge(self, caller: str, tokens: int) -> None:
        """Add to what a caller has used."""
        self._used[caller] = self._used.get(caller, 0) + tokens


class FairQueue:
    """Holds what waits: first come, first served among prompts of one class of one caller.

    Of several classes the one goes next whose first has waited longest for its class, so that the
    times that they wait are as 1 to 2 to 3, from the shortest prompts on. That keeps the waits
    within a class close together, which shares of the tokens would not: the shortest would hardly
    wait, and then suddenly, for a place.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all: dict[str, Waiting] = {}
        self._lanes: dict[str, dict[int, dict[str, Waiting]]] = {}
        self._callers = Shares()

    def __len__(self) -> int:
        """Count what waits."""
        return len(self._all)

    def __iter__(self) -> Iterator[Waiting]:
        """Iterate over what waits, in order of arrival."""
        return iter(self._all.values())

    def push(self, waiting: Waiting) -> None:
        """Let it wait behind those before it."""
        self._all[waiting.request.id] = waiting
        caller, size = waiting.caller, waiting.size
        if caller not in self._lanes:
            self._callers.enter(caller)
        self._lanes.setdefault(caller, {}).setdefault(size, {})[waiting.request.id] = waiting

    def pop(self) -> Waiting:
        """Take out what goes next; its prompt is charged to its caller."""
        caller = self._callers.next(self._lanes)
        firsts = [next(iter(lane.values())) for lane in self._lanes[caller].values()]
        now = self._clock()
        waiting = max(firsts, key=lambda first: (now - first.since) / (1 + first.size))
        self.remove(waiting.request.id)
        self._callers.charge(caller, waiting.tokens)
        return waiting

    def remove(self, request_id: str) -> Waiting | None:
        """Take one out, and charge nothing; return it if it was waiting."""
        waiting = self._all.pop(request_id, None)
        if waiting is None:
            return None
        lanes = self._lanes[waiting.caller]
        lane = lanes[waiting.size]
        del lane[request_id]
        if not lane:
            del lanes[waiting.size]
        if not lanes:
            del self._lanes[waiting.caller]
        return waiting

    def charge_generated(self, waiting: Waiting, tokens: int) -> None:
        """Charge a caller for what was generated, once that is known."""
        self._callers.charge(waiting.caller, _WEIGHT_OF_GENERATED * tokens)
