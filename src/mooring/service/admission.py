"""Which requests get in: sequences and waiting prompt tokens are counted, and both are bounded."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from mooring.errors import EngineError, InvalidInput, ServerBusy

# The bounds of what a refused client is told to wait, in seconds.
SHORTEST_RETRY, LONGEST_RETRY = 1, 30
_FIRST_GUESS = 2.0
_NEWEST_SHARE = 0.1

YieldTo = Callable[[str, int, int, EngineError], bool]


@dataclass(frozen=True, slots=True)
class Activity:
    """Sequences admitted now and how many there may be, and prompt tokens that wait."""

    sequences: int
    limit: int
    waiting_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many sequences run side by side, and how many more, with how many tokens, may wait."""

    running: int
    waiting: int
    waiting_tokens: int

    @property
    def sequences(self) -> int:
        """Count all that may be held at once."""
        return self.running + self.waiting


class Admission:
    """Counts what is held against its bounds. Used from one event loop only.

    A call that finds all its places among the running ones gets in whatever its length; one that
    would have to wait, in whole or in part, must also fit into what may wait, in tokens. Where
    there is no room left, `yield_to` may make some, see `Turns.yield_to`.
    """

    def __init__(
        self,
        bounds: Bounds,
        *,
        yield_to: YieldTo = lambda *_: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bounds = bounds
        self._yield_to = yield_to
        self._clock = clock
        self._calls = 0
        self._admitted = 0
        self._waiting_tokens = 0
        self._mean_seconds = _FIRST_GUESS

    @property
    def activity(self) -> Activity:
        """What is admitted now."""
        return Activity(self._admitted, self._bounds.sequences, self._waiting_tokens)

    def admit(self, places: int, tokens: int = 0, caller: str = "") -> "Permit":
        """Take `places` for prompts of `tokens` in all, of one caller.

        Raises `ServerBusy`, or `InvalidInput` if there never are so many places.
        """
        bounds = self._bounds
        if places > bounds.sequences:
            raise InvalidInput(
                f"One call may ask for at most {bounds.sequences} sequences, prompts times `n`. "
                f"Given: {places}. Send several calls."
            )
        excess = max(0, self._admitted + places - bounds.sequences)
        over = max(0, min(places, self._admitted - excess + places - bounds.running))
        added = tokens * over // max(1, places)
        excess_tokens = max(0, self._waiting_tokens + added - bounds.waiting_tokens) if over else 0
        if (excess or excess_tokens) and not self._make_room(caller, excess, excess_tokens):
            if excess:
                raise self._busy(
                    f"The server holds at most {bounds.sequences} sequences at once. Held: "
                    f"{self._admitted}, asked for {places} more.",
                    places=excess,
                )
            raise self._busy(
                f"At most {bounds.waiting_tokens} prompt tokens may wait at once. Waiting: "
                f"{self._waiting_tokens}, asked for {added} more.",
                places=over,
            )
        self._admitted += places
        self._waiting_tokens += tokens
        self._calls += 1
        return Permit(self, places, tokens, caller=caller, call=self._calls)

    def wait(self, tokens: int) -> None:
        """Count `tokens` as waiting too; only a permit calls this."""
        self._waiting_tokens += tokens

    def begin(self, tokens: int) -> None:
        """Count `tokens` as waiting no longer; only a permit and its places call this."""
        self._waiting_tokens -= tokens

    def give_back(self, places: int) -> None:
        """Free `places`; only a permit calls this."""
        self._admitted -= places

    def note_held(self, since: float) -> None:
        """Learn how long a sequence that ends now has held its place."""
        held = self._clock() - since
        self._mean_seconds += _NEWEST_SHARE * (held - self._mean_seconds)

    def now(self) -> float:
        """Return the clock's time in seconds."""
        return self._clock()

    def _make_room(self, caller: str, places: int, tokens: int) -> bool:
        pushed_out = self._busy(
            "The server is full, and others have fewer requests waiting than you.", places=1
        )
        return self._yield_to(caller, places, tokens, pushed_out)

    def _busy(self, message: str, *, places: int) -> ServerBusy:
        """Refuse, with the time after which `places` will have come free at the usual pace."""
        seconds = self._mean_seconds * places / max(1, self._bounds.running)
        retry = min(max(math.ceil(seconds), SHORTEST_RETRY), LONGEST_RETRY)
        return ServerBusy(f"{message} Try again in {retry} s.", retry_seconds=retry)


class Permit:
    """The places of one call, used again and again by its sequences until it is closed."""

    def __init__(
        self, admission: Admission, places: int, tokens: int, *, caller: str, call: int
    ) -> None:
        self.caller = caller
        self.call = call
        self._admission = admission
        self._spare = places
        self._tokens = tokens
        self._closed = False

    def take(self, tokens: int = 0) -> "Place":
        """Use one place for a sequence, with a prompt of `tokens`, that goes to the engine now."""
        self._spare -= 1
        reserved = min(tokens, self._tokens)
        self._tokens -= reserved
        self._admission.wait(tokens - reserved)
        return Place(self, self._admission, tokens)

    def release(self) -> None:
        """Free the place of one sequence that the engine has let go of."""
        if self._closed:
            self._admission.give_back(1)
        else:
            self._spare += 1

    def forfeit(self) -> None:
        """Lose the place of one sequence to another call, also while this call goes on."""
        self._admission.give_back(1)

    def close(self) -> None:
        """Give back what is not in use, and the rest as the engine lets go of it."""
        if not self._closed:
            self._closed = True
            self._admission.give_back(self._spare)
            self._admission.begin(self._tokens)
            self._spare = self._tokens = 0


class Place:
    """Where one sequence is held, from when it is sent off until the engine lets go of it.

    `caller` is whose it is, `call` the number of the call: a later one has a higher number; `since`
    is when it was sent off.
    """

    def __init__(self, permit: Permit, admission: Admission, tokens: int) -> None:
        self.caller = permit.caller
        self.call = permit.call
        self._permit = permit
        self._admission = admission
        self._tokens = tokens
        self.since = admission.now()

    def begin(self) -> None:
        """Note that the sequence waits no longer; may be called again."""
        self._admission.begin(self._tokens)
        self._tokens = 0

    def release(self) -> None:
        """Free the place; called once."""
        self.begin()
        self._admission.note_held(self.since)
        self._permit.release()

    def forfeit(self) -> None:
        """Leave the place to another call; called once, instead of `release`."""
        self.begin()
        self._permit.forfeit()
