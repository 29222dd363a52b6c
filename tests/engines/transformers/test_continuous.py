"""Whatever joins, leaves, waits or is put back: each answer is the one its request has alone."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mooring.engines.contract import CacheUse
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.trial import try_captured
from mooring.generation import Finished, Started
from tests.engines.transformers.rows import (
    LONGEST,
    PROMPTS,
    Ask,
    Bench,
    Fixed,
    HalfRight,
    run_again,
    tokens_of,
    watch,
)
from tests.engines.transformers.test_families import FAMILIES

ASKS = st.lists(
    st.builds(
        Ask,
        prompt=st.integers(0, len(PROMPTS) - 1),
        tokens=st.integers(1, LONGEST),
        sampled=st.booleans(),
        arrives=st.integers(0, 25),
        cancelled_after=st.none() | st.integers(0, 20),
        shared=st.sampled_from([0, 45]),
        scope=st.sampled_from(["", "own"]),
    ),
    min_size=1,
    max_size=9,
)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "mamba"])
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    asks=ASKS,
    most_tokens=st.integers(120, 700),
    allowance=st.sampled_from([1, 7, 512]),
    keeps=st.booleans(),
    drafts=st.none() | st.integers(0, 1000),
    ragged=st.booleans(),
    captured=st.booleans(),
)  # fmt: skip
def test_every_answer_is_the_one_alone(
    loaded_of: Callable[[str], LoadedModel],
    alone_of: Callable[[str, Ask], list[int]],
    family: str,
    asks: list[Ask],
    most_tokens: int,
    allowance: int,
    keeps: bool,
    drafts: int | None,
    ragged: bool,
    captured: bool,
) -> None:
    answers = {ask.prompt_ids: alone_of(family, replace(ask, tokens=LONGEST)) for ask in asks}
    speculation = None if drafts is None else HalfRight(answers, drafts)
    bench = Bench(
        loaded_of(family),
        most_tokens,
        keeps=keeps,
        speculation=speculation,
        ragged=ragged,
        captured=try_captured(loaded_of(family), run_again) if captured else None,
        pace=Fixed(allowance),
    )
    answered = bench.run(asks)
    for ask, events in zip(asks, answered, strict=True):
        expected, end = alone_of(family, ask), events[-1]
        if isinstance(end, Finished) and end.reason == "cancelled":
            assert ask.cancelled_after is not None
            assert tokens_of(events) == expected[: len(tokens_of(events))]
        else:
            assert isinstance(end, Finished)
            assert end.reason == ("length" if len(expected) == ask.tokens else "stop")
            assert end.cached_tokens <= (len(ask.prompt_ids) - 1 if keeps else 0)
            assert tokens_of(events) == expected


def test_the_youngest_is_put_back_and_goes_on_later(
    monkeypatch: pytest.MonkeyPatch,
    loaded_of: Callable[[str], LoadedModel],
    alone_of: Callable[[str, Ask], list[int]],
) -> None:
    loaded = loaded_of("llama")
    asks = [Ask(5, 30, True, 0, None), Ask(4, 30, True, 0, None), Ask(3, 1, True, 9, None)]
    expected = [alone_of("llama", ask) for ask in asks]
    bench = Bench(loaded, most_tokens=120)
    shapes = watch(monkeypatch, loaded.model)
    answered = bench.run(asks)
    assert [tokens_of(events) for events in answered] == expected
    assert [events.count(Started()) for events in answered] == [1, 1, 1]
    assert bench.cache_use == CacheUse(0.0, preemptions=1)
    # Both fit for 60 columns each: 20 tokens after the longer prompt. Then the younger begins
    # again, with what it has, when the other has ended and before one that came later.
    prompts = [shape for shape in shapes if shape[1] > 1]
    assert prompts == [(1, 29), (1, 40), (1, 29 + 21), (1, 17)]
    assert Counter(shapes)[(2, 1)] == 20


def test_a_long_prompt_comes_in_pieces_between_steps(
    monkeypatch: pytest.MonkeyPatch, loaded_of: Callable[[str], LoadedModel]
) -> None:
    loaded = loaded_of("llama")
    bench = Bench(loaded, most_tokens=1000, pace=Fixed(15))
    shapes = watch(monkeypatch, loaded.model)
    bench.run([Ask(1, 8, True, 0, None), Ask(5, 2, True, 2, None), Ask(2, 3, True, 2, None)])
    assert shapes == [
        (1, 3),
        (1, 1),
        (1, 1), (1, 8),  # what is left of 15 is not worth a piece of 40
        (2, 1), (1, 15),
        (2, 1), (1, 15),
        (1, 1), (1, 10),
        (2, 1),
        (1, 1),
    ]  # fmt: skip


def test_waits_when_the_cache_is_full(
    monkeypatch: pytest.MonkeyPatch, loaded_of: Callable[[str], LoadedModel]
) -> None:
    loaded = loaded_of("llama")
    shapes = watch(monkeypatch, loaded.model)
    bench = Bench(loaded, most_tokens=75)
    shapes.clear()
    bench.run([Ask(5, 5, True, 0, None), Ask(4, 5, True, 0, None)])
    assert shapes == [(1, 29), *[(1, 1)] * 4, (1, 40), *[(1, 1)] * 4]
