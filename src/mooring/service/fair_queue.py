"""What waits, in a fair order: callers share alike, and short and long prompts of each do too."""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from mooring.engines.contract import Emit
from mooring.generation import GenerationRequest
from mooring.service.admission import Place

# What a generated token counts for, beside one that is only read.
_WEIGHT_OF_GENERATED = 2

Key = TypeVar("Key", bound=Hashable)


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
    def tokens(self) -> int:
        """Count the tokens of the prompt."""
        return len(self.request.prompt_ids)

    @property
    def size(self) -> int:
        """Return the class of the prompt's length, each up to eight times as long as the last."""
        return self.tokens.bit_length() // 3


class Shares(Generic[Key]):
    """What each key has used; the one that has used least goes next.

    A key that comes back begins where those are that are served now: being away saves nothing up.
    """

    def __init__(self) -> None:
        self._used: dict[Key, int] = {}
        self._now = 0

    def enter(self, key: Key) -> None:
        """Note that a key has begun to wait."""
        self._used[key] = max(self._used.get(key, 0), self._now)

    def next(self, keys: Iterable[Key]) -> Key:
        """Choose among keys that have entered; the first of equals."""
        chosen = min(keys, key=self._used.__getitem__)
        self._now = max(self._now, self._used[chosen])
        return chosen

    def charge(self, key: Key, tokens: int) -> None:
        """Add to what a key has used."""
        self._used[key] = self._used.get(key, 0) + tokens


class FairQueue:
    """Holds what waits: first come, first served among prompts of one length of one caller."""

    def __init__(self) -> None:
        self._all: dict[str, Waiting] = {}
        self._lanes: dict[str, dict[int, dict[str, Waiting]]] = {}
        self._callers: Shares[str] = Shares()
        self._sizes: dict[str, Shares[int]] = {}

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
        lanes = self._lanes.setdefault(caller, {})
        if size not in lanes:
            self._sizes.setdefault(caller, Shares()).enter(size)
        lanes.setdefault(size, {})[waiting.request.id] = waiting

    def pop(self) -> Waiting:
        """Take out what goes next; its prompt is charged to its caller."""
        caller = self._callers.next(self._lanes)
        lanes = self._lanes[caller]
        lane = lanes[self._sizes[caller].next(lanes)]
        waiting = next(iter(lane.values()))
        self.remove(waiting.request.id)
        self._charge(waiting, waiting.tokens)
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
        self._charge(waiting, _WEIGHT_OF_GENERATED * tokens)

    def _charge(self, waiting: Waiting, tokens: int) -> None:
        self._callers.charge(waiting.caller, tokens)
        self._sizes[waiting.caller].charge(waiting.size, tokens)
