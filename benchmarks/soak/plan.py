"""How long runs are, and what is random in them."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Short runs or whole ones; `slowness` is how many times slower than usual the machine is."""

    short: bool
    seed: int
    slowness: float
    minutes: float = 60.0

    def chance(self) -> random.Random:
        """Return a source of randomness that gives the same for the same seed."""
        return random.Random(self.seed)

    def seconds(self, whole: float, *, short: float) -> float:
        """Return a length in seconds."""
        return short if self.short else whole

    def times(self, whole: int, *, short: int) -> int:
        """Return a number of repeats."""
        return short if self.short else whole
