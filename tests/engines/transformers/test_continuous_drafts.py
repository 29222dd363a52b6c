"""A row alone gets several tokens a step where its text repeats itself, and never a wrong one."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from mooring.engines.sequence import Sequence
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.speculation import Speculation
from mooring.generation import Event, Finished, GenerationRequest, SamplingParams, Started, Token
from tests.engines.transformers.rows import Bench, HalfRight, watch


def repeat(tokens: int, **sampling: Any) -> tuple[Sequence, list[Event]]:
    """A request whose answer says 9 for ever."""
    params = SamplingParams(temperature=0.0).update({"logit_bias": {9: 100.0}, **sampling})
    events: list[Event] = []
    request = GenerationRequest("any", (5, 6, 7), params)
    return Sequence(request, events.append, tokens), events


def test_a_row_alone_that_repeats_itself_gets_several_tokens_a_step(
    monkeypatch: pytest.MonkeyPatch, loaded_of: Callable[[str], LoadedModel]
) -> None:
    ticks = itertools.count()
    bench = Bench(loaded_of("llama"), 500, speculation=Speculation(lambda: float(next(ticks))))
    shapes = watch(monkeypatch, loaded_of("llama").model)
    sequence, events = repeat(60)
    bench.step([sequence])
    while not sequence.ended:
        bench.step([])
    assert events == [Started(), *[Token(9)] * 60, Finished("length")]
    assert max(shapes) == (1, 16)
    assert len(shapes) < 30
    other, _ = repeat(40)
    sequence, events = repeat(40)
    shapes.clear()
    bench.step([sequence, other])
    while not sequence.ended:
        bench.step([])
    assert set(shapes) == {(1, 3), (2, 1)}


def test_no_token_is_sent_after_a_cancellation_within_a_draft(
    loaded_of: Callable[[str], LoadedModel],
) -> None:
    bench = Bench(loaded_of("llama"), 500, speculation=HalfRight({(5, 6, 7): [9] * 60}, 0))
    sequence, events = repeat(60)

    def receive(event: Event) -> None:
        events.append(event)
        sequence.cancelled = len(events) >= 6

    sequence._emit = receive
    bench.step([sequence])
    while not sequence.cancelled:
        bench.step([])
    assert events == [Started(), *[Token(9)] * 5]


def test_a_draft_that_fails_in_the_model_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, loaded_of: Callable[[str], LoadedModel]
) -> None:
    loaded = loaded_of("llama")
    forward: Callable[..., Any] = loaded.model.forward

    def refuse(**kwargs: Any) -> Any:
        if kwargs["input_ids"].shape[1] not in (1, 3):
            raise RuntimeError("several tokens")
        return forward(**kwargs)

    bench = Bench(loaded, 500, speculation=HalfRight({(5, 6, 7): [9] * 60}, 3))
    refuse.__wrapped__ = forward  # type: ignore[attr-defined]
    monkeypatch.setattr(loaded.model, "forward", refuse)
    sequence, events = repeat(20)
    bench.step([sequence])
    while not sequence.ended:
        bench.step([])
    assert events == [Started(), *[Token(9)] * 20, Finished("length")]
