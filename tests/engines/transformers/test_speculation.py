"""Drafts: guessed from what was said, verified only where that makes tokens come faster."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.engines.transformers.lookup import Lookup
from mooring.engines.transformers.speculation import Speculation


@pytest.mark.parametrize(
    ("ids", "guess"),
    [
        ([1, 2, 3, 4, 5, 1, 2, 3], [4, 5, 1, 2, 3, 4]),
        ([9, 2, 3, 4, 1, 2, 3, 5, 6, 9, 2, 3], [4, 1, 2, 3, 5, 6]),
        ([2, 3, 4, 7, 2, 3, 5, 8, 2, 3], [5, 8, 2, 3, 5, 8]),
        ([8, 8, 8], [8] * 6),
        ([8, 8], []),
        ([1, 2, 3, 4], []),
        ([1], []),
        ([], []),
    ],
)
def test_guesses_what_followed_three_tokens_or_two(ids: list[int], guess: list[int]) -> None:
    assert Lookup(ids).guess(6) == guess


@given(st.lists(st.integers(0, 2), min_size=4, max_size=40), st.integers(1, 20))
def test_guesses_the_same_while_the_text_grows(ids: list[int], most: int) -> None:
    growing: list[int] = []
    lookup = Lookup(growing)
    for token in ids:
        growing.append(token)
        assert lookup.guess(most) == Lookup(list(growing)).guess(most)


def play(text: Callable[[int], int], seconds: Callable[[int], float], tokens: int) -> float:
    """Return how many times faster than one by one a text is said if passes take `seconds`."""
    row: Any = SimpleNamespace(ids=[text(place) for place in range(3)], trust=0.0)
    row.lookup = Lookup(row.ids)
    speculation, spent = Speculation(), 0.0
    while len(row.ids) < tokens + 3:
        draft = speculation.draft(row, 15)
        kept = 0
        for guessed in (*draft.tokens, None):
            row.ids.append(text(len(row.ids)))
            kept += 1
            if row.ids[-1] != guessed:
                break
        took = seconds(1 + draft.verified)
        speculation.learn(row, draft, kept, took)
        spent += took
    return (len(row.ids) - 3) * seconds(1) / spent


def steep(size: int) -> float:
    return 0.06 * (1 + 0.45 * (size - 1))


def flat(size: int) -> float:
    return 0.02


def noise(place: int) -> int:
    """Few different tokens, so that there is always something to guess, mostly wrongly."""
    return (place * place * 7919 // 13 + place // 3) % 5


@pytest.mark.parametrize(
    ("text", "seconds", "least"),
    [
        (lambda place: place % 7, flat, 10),
        (lambda place: place % 7, steep, 1.6),
        (noise, flat, 1.0),
        (noise, steep, 0.95),
        (lambda place: place, steep, 1.0),
        (lambda place: place, lambda size: 0.06 * size, 1.0),
        (lambda place: place % 7, lambda size: 0.06 * size, 0.95),
    ],
    ids=["repeats", "repeats, steep", "noise", "noise, steep", "new", "new, no gain", "no gain"],
)
def test_drafts_pay_or_are_left(
    text: Callable[[int], int], seconds: Callable[[int], float], least: float
) -> None:
    assert play(text, seconds, 600) >= least
