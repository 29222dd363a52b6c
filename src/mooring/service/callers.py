"""What the holder of a key has in use, and what its limits leave."""

import math
from collections.abc import Callable, Sequence

from mooring.errors import Forbidden, RateLimited, UnknownModel
from mooring.settings import ApiKey

_LONGEST_RETRY = 60
_SECONDS = 60.0

Clock = Callable[[], float]


class Caller:
    """One key in use, or everybody where no keys are asked for. Used from one event loop only."""

    def __init__(self, key: ApiKey | None, clock: Clock) -> None:
        self._key = key
        self._clock = clock
        self._requests = 0
        self._budget = _budget(key, clock)

    @property
    def name(self) -> str | None:
        """The name of the key; None for everybody."""
        return self._key.name if self._key else None

    @property
    def requests(self) -> int:
        """Count the requests in progress."""
        return self._requests

    def change(self, key: ApiKey) -> None:
        """Go on with other limits for the same key."""
        if self._key is None or key.tokens_per_minute != self._key.tokens_per_minute:
            self._budget = _budget(key, self._clock)
        self._key = key

    def enter(self) -> None:
        """Count one more request until it leaves; raise `RateLimited` if the key has too many."""
        limit = self._key.max_concurrent if self._key else None
        if limit is not None and self._requests >= limit:
            raise RateLimited(
                f"This key may have {limit} requests at once. In progress: {self._requests}. "
                "Try again when one has ended."
            )
        self._requests += 1

    def leave(self) -> None:
        """Count one request less."""
        self._requests -= 1

    def may_use(self, model: str) -> bool:
        """Return whether the key is for `model`."""
        return self._key is None or self._key.models is None or model in self._key.models

    def check_models(self, names: Sequence[str]) -> None:
        """Raise `UnknownModel` unless the key is for one of `names`, which mean the same model."""
        if not any(self.may_use(name) for name in names):
            raise UnknownModel(
                "This key is not for this model. Ask for one that is.", param="model"
            )

    def check_metrics(self) -> None:
        """Raise `Forbidden` unless the key may read the metrics, which name all keys."""
        if self._key is not None and not self._key.metrics:
            raise Forbidden("This key may not read the metrics. Give it `metrics: true`.")

    def reserve(self, tokens: int) -> "Reservation":
        """Take `tokens` of this minute's; raise `RateLimited` if too few are left."""
        if self._budget is None:
            return Reservation(None, 0)
        return self._budget.reserve(tokens)


class TokenBudget:
    """Tokens that flow back at a steady rate, up to one minute's worth."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left = float(per_minute)
        self._filled = clock()

    @property
    def left(self) -> float:
        """Count the tokens left now; below 0 after more was used than reserved."""
        now = self._clock()
        flowed = (now - self._filled) * self._per_minute / _SECONDS
        self._left = min(self._left + flowed, float(self._per_minute))
        self._filled = now
        return self._left

    def reserve(self, tokens: int) -> "Reservation":
        """Take `tokens`, or all of a full minute if they are more; raise `RateLimited`."""
        taken, left = min(tokens, self._per_minute), self.left
        if taken > left:
            seconds = (taken - left) * _SECONDS / self._per_minute
            raise RateLimited(
                f"This key may use {self._per_minute} tokens per minute, prompt and answer. "
                f"Left: {max(0, math.floor(left))}, asked for {tokens}. "
                "Lower `max_tokens`, or try again later.",
                retry_seconds=min(max(math.ceil(seconds), 1), _LONGEST_RETRY),
            )
        self._left -= taken
        return Reservation(self, taken)

    def give_back(self, tokens: int) -> None:
        """Return what was reserved and not used; below 0 takes more."""
        self._left += tokens


class Reservation:
    """Tokens taken for one call, corrected once by what it really used."""

    def __init__(self, budget: TokenBudget | None, tokens: int) -> None:
        self._budget = budget
        self._tokens = tokens

    def settle(self, used: int) -> None:
        """Correct what was taken to `used` tokens; later calls change nothing."""
        if self._budget is not None:
            self._budget.give_back(self._tokens - used)
            self._budget = None


def _budget(key: ApiKey | None, clock: Clock) -> TokenBudget | None:
    limit = key.tokens_per_minute if key else None
    return None if limit is None else TokenBudget(limit, clock)
