"""Decides how many guessed tokens a pass verifies: as many as make tokens come fastest."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from mooring.engines.transformers.row import Row

# Passes of few sizes, so that what each takes is soon known.
_SIZES = (1, 2, 4, 8, 16)
# What a further token adds to a pass, as a share of a pass of one, until it has been measured.
_GUESSED_SHARE = 0.2
# A draft must promise this much more tokens per second than going on without.
_LEAST_GAIN = 1.1
# How much one guess says about the next, and one pass about the time of others.
_TRUST_WEIGHT, _TIME_WEIGHT = 0.2, 0.3
# Times of sizes that are not used fade, so that one slow moment does not rule a size out for ever.
_FADE = 0.998


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that a row may say next; the first `verified` of them go through the model now."""

    guess: list[int]
    verified: int = 0

    @property
    def tokens(self) -> list[int]:
        """The tokens to verify."""
        return self.guess[: self.verified]


class Speculation:
    """Drafts for rows that run alone; learns what passes take and how good a row's guesses are.

    Guesses are looked up at every step and compared with what comes, whether they are verified or
    not, so that a text which does not repeat itself costs nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._seconds: dict[int, float] = {}

    def draft(self, row: Row, most: int) -> Draft:
        """Return a draft of which at most `most` tokens are to be verified."""
        guess = row.lookup.guess(_SIZES[-1] - 1)
        sizes = [size for size in _SIZES if size - 1 <= most]
        if not guess or 1 not in self._seconds:
            return Draft(guess)
        best = max(sizes, key=lambda size: self._rate(size, row.trust))
        gain = self._rate(best, row.trust) / self._rate(1, row.trust)
        return Draft(guess, best - 1 if gain >= _LEAST_GAIN else 0)

    def learn(self, row: Row, draft: Draft, kept: int, seconds: float) -> None:
        """Note what a pass took that gave `kept` tokens, and how many of them were as drafted."""
        self._note(draft.verified + 1, seconds)
        for said, guessed in zip(row.ids[-kept:], draft.guess, strict=False):
            row.trust += _TRUST_WEIGHT * ((said == guessed) - row.trust)

    def _rate(self, size: int, trust: float) -> float:
        """Return the tokens per second that a pass of so many tokens promises."""
        tokens = sum(trust**place for place in range(size))
        return tokens / self._expected(size)

    def _expected(self, size: int) -> float:
        guessed = self._seconds[1] * (1 + _GUESSED_SHARE * (size - 1))
        return self._seconds.get(size, guessed)

    def _note(self, size: int, seconds: float) -> None:
        before = self._expected(size) if 1 in self._seconds else seconds
        # At most twice as long: what interrupts one pass does not interrupt the next.
        self._seconds[size] = before + _TIME_WEIGHT * (min(seconds, 2 * before) - before)
        for other in self._seconds.keys() - {1, size}:
            self._seconds[other] *= _FADE
