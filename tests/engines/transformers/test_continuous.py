"""Whatever joins, leaves, waits or is put back: each answer is the one its request has alone."""

import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mooring.engines.contract import CacheUse
from mooring.engines.sequence import Sequence
from mooring.engines.transformers import continuous
from mooring.engines.transformers.columns import Columns
from mooring.engines.transformers.continuous import Continuous
from mooring.engines.transformers.loader import LoadedModel, load_model
from mooring.engines.transformers.prefixes import BLOCK_TOKENS, PrefixStore
from mooring.engines.transformers.row import Row
from mooring.engines.transformers.speculation import Draft, Speculation
from mooring.engines.transformers.trial import try_columns
from mooring.generation import (
    Event,
    Failed,
    Finished,
    GenerationRequest,
    SamplingParams,
    Started,
    Token,
)
from mooring.settings import EngineSettings
from tests.engines.conftest import SnapshotOf
from tests.engines.transformers.test_families import FAMILIES, generate_alone
from tests.models import END

PROMPTS = tuple([(5 * place + 13 * number) % 250 + 3 for place in range(length)]
                for number, length in enumerate((1, 3, 8, 17, 29, 40)))  # fmt: skip
SAMPLED = {
    "temperature": 1.2,
    "top_p": 0.95,
    "seed": 7,
    "frequency_penalty": 0.5,
    "repetition_penalty": 1.3,
    "ignore_eos": True,
}
LONGEST = 30
# Not a whole number of blocks, as prompts have it.
SHARED = [(11 * place + place * place) % 241 + 5 for place in range(45)]


@dataclass(frozen=True)
class Ask:
    """One of the prompts, when it arrives and, perhaps, when it is cancelled; in steps."""

    prompt: int
    tokens: int
    sampled: bool
    arrives: int
    cancelled_after: int | None
    shared: int = 0
    scope: str = ""

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        return (*SHARED[: self.shared], *PROMPTS[self.prompt])


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


class HalfRight(Speculation):
    """Drafts what the row will say, up to a place where it errs: now soon, now late."""

    def __init__(self, answers: dict[tuple[int, ...], list[int]], seed: int) -> None:
        super().__init__()
        self._answers = answers
        self._random = random.Random(seed)

    def draft(self, row: Row, most: int) -> Draft:
        prompt = row.sequence.request.prompt_ids
        coming = [*self._answers[prompt], *[END] * LONGEST][len(row.ids) - len(prompt) :]
        right = self._random.randint(0, 8)
        guess = [*coming[:right], *[(token + 1) % 250 for token in coming[right : right + 2]]]
        return Draft(guess, min(most, self._random.randint(0, len(guess))))


class Bench:
    """A model in continuous batches, stepped by hand."""

    def __init__(
        self,
        loaded: LoadedModel,
        most_tokens: int,
        *,
        keeps: bool = False,
        speculation: Speculation | None = None,
    ) -> None:
        like = try_columns(loaded)
        assert like is not None
        self.prefixes = PrefixStore(most_tokens if keeps else 0)
        self.most_tokens = most_tokens
        self.columns = Columns(like, most_tokens, self._share if keeps else lambda cells: None)
        self.steps = 0
        self._continuous = Continuous(
            loaded, self.columns, frozenset([END]), self.prefixes, speculation
        )

    def _share(self, cells: int) -> None:
        self.prefixes.bound(self.most_tokens - cells)

    def send(self, ask: Ask) -> tuple[Sequence, list[Event]]:
        params = SamplingParams(temperature=0.0).update(SAMPLED if ask.sampled else {})
        events: list[Event] = []
        request = GenerationRequest("any", ask.prompt_ids, params, cache_scope=ask.scope)
        return Sequence(request, events.append, ask.tokens), events

    @property
    def cache_use(self) -> CacheUse:
        return self._continuous.cache_use

    @torch.inference_mode()
    def step(self, joining: list[Sequence]) -> None:
        self._continuous.step(joining)
        self.steps += 1
        rows, _, columns, _ = self.columns.layers[0].keys.shape
        assert rows * columns + self.prefixes.tokens <= self.most_tokens

    def run(self, asks: list[Ask]) -> list[list[Event]]:
        sent = [self.send(ask) for ask in asks]
        while self.steps <= 25 or any(not sequence.ended for sequence, _ in sent):
            assert self.steps < 2000
            for ask, (sequence, _) in zip(asks, sent, strict=True):
                if ask.cancelled_after == self.steps - ask.arrives:
                    sequence.end(Finished("cancelled"))
            now = [s for a, (s, _) in zip(asks, sent, strict=True) if a.arrives == self.steps]
            self.step([sequence for sequence in now if not sequence.ended])
        return [events for _, events in sent]


def tokens_of(events: list[Event]) -> list[int]:
    return [event.id for event in events if isinstance(event, Token)]


@pytest.fixture(scope="module")
def loaded_of(snapshot_of: SnapshotOf) -> Callable[[str], LoadedModel]:
    @cache
    def load(family: str) -> LoadedModel:
        engine_settings = EngineSettings(device="cpu", dtype="float32")
        trust = family == "remote_code"
        snapshot: Path = snapshot_of(family)
        return load_model(snapshot, engine_settings, dtype="auto", trust_remote_code=trust)

    return load


@pytest.fixture(scope="module")
def alone_of(loaded_of: Callable[[str], LoadedModel]) -> Callable[[str, Ask], list[int]]:
    """Return the tokens of a request alone: `generate`'s, or our own for a sampled one."""

    @cache
    def longest(family: str, prompt: int, shared: int, sampled: bool) -> list[int]:
        ask = Ask(prompt, LONGEST, sampled, 0, None, shared)
        if not sampled:
            return generate_alone(loaded_of(family).model, (list(ask.prompt_ids), LONGEST))[0]
        [events] = Bench(loaded_of(family), 200).run([ask])
        return tokens_of(events)

    return lambda family, ask: longest(family, ask.prompt, ask.shared, ask.sampled)[: ask.tokens]


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
) -> None:
    answers = {ask.prompt_ids: alone_of(family, replace(ask, tokens=LONGEST)) for ask in asks}
    speculation = None if drafts is None else HalfRight(answers, drafts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(continuous, "PREFILL_TOKENS", allowance)
        bench = Bench(loaded_of(family), most_tokens, keeps=keeps, speculation=speculation)
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


def watch(monkeypatch: pytest.MonkeyPatch, model: Any) -> list[tuple[int, int]]:
    shapes: list[tuple[int, int]] = []
    forward: Callable[..., Any] = model.forward

    def watched(**kwargs: Any) -> Any:
        shapes.append(tuple(kwargs["input_ids"].shape))
        return forward(**kwargs)

    watched.__wrapped__ = forward  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "forward", watched)
    return shapes


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
    # Both fit for 60 columns each: 20 tokens after the longer prompt. Then one begins again,
    # with what it has, when the other has ended and before one that came later.
    prompts = [shape for shape in shapes if shape[1] > 1]
    assert prompts == [(1, 40), (1, 29), (1, 29 + 21), (1, 17)]
    assert Counter(shapes)[(2, 1)] == 20


def test_a_long_prompt_comes_in_pieces_between_steps(
    monkeypatch: pytest.MonkeyPatch, loaded_of: Callable[[str], LoadedModel]
) -> None:
    loaded = loaded_of("llama")
    bench = Bench(loaded, most_tokens=1000)
    monkeypatch.setattr(continuous, "PREFILL_TOKENS", 15)
    shapes = watch(monkeypatch, loaded.model)
    bench.run([Ask(1, 8, True, 0, None), Ask(5, 2, True, 2, None), Ask(2, 3, True, 2, None)])
    assert shapes == [
        (1, 3),
        (1, 1),
        (1, 1), (1, 15),
        (1, 1), (1, 15),
        (1, 1), (1, 10), (1, 5),
        (2, 1), (1, 3),
        (2, 1),
        (2, 1),
    ]  # fmt: skip


def test_waits_when_the_cache_is_full(
    monkeypatch: pytest.MonkeyPatch, loaded_of: Callable[[str], LoadedModel]
) -> None:
    loaded = loaded_of("llama")
    shapes = watch(monkeypatch, loaded.model)
    bench = Bench(loaded, most_tokens=75)
    shapes.clear()
    bench.run([Ask(5, 5, True, 0, None), Ask(4, 5, True, 0, None)])
    assert shapes == [(1, 40), *[(1, 1)] * 4, (1, 29), *[(1, 1)] * 4]


def test_no_memory_for_a_newcomer_fails_it_alone(
    monkeypatch: pytest.MonkeyPatch,
    loaded_of: Callable[[str], LoadedModel],
    alone_of: Callable[[str, Ask], list[int]],
) -> None:
    asks = [Ask(3, 20, True, 0, None), Ask(2, 20, True, 0, None), Ask(5, 20, True, 3, None)]
    expected = [alone_of("llama", ask) for ask in asks]
    join = Columns.join

    def refuse(self: Columns, prefilled: Any, length: int) -> int:
        if length == 40:
            self.layers[0].keys = self.layers[0].keys[:1]
            raise torch.OutOfMemoryError
        return join(self, prefilled, length)

    bench = Bench(loaded_of("llama"), 1000)
    monkeypatch.setattr(Columns, "join", refuse)
    shapes = watch(monkeypatch, loaded_of("llama").model)
    *others, refused = bench.run(asks)
    assert [length for _, length in shapes if length > 1] == [17, 8, 40, 17 + 4, 8 + 4]
    assert [tokens_of(events) for events in others] == expected[:2]
    assert [type(event) for event in refused] == [Started, Token, Failed]


def test_no_memory_for_a_step_fails_who_runs_and_not_who_comes(
    monkeypatch: pytest.MonkeyPatch,
    loaded_of: Callable[[str], LoadedModel],
    alone_of: Callable[[str, Ask], list[int]],
) -> None:
    asks = [Ask(3, 20, True, 0, None), Ask(2, 20, True, 0, None), Ask(5, 20, True, 9, None)]
    expected = alone_of("llama", asks[2])
    bench = Bench(loaded_of("llama"), 1000)
    make_room = Columns.make_room

    def refuse(self: Columns) -> int:
        if bench.steps == 5:
            raise torch.OutOfMemoryError
        return make_room(self)

    monkeypatch.setattr(Columns, "make_room", refuse)
    *failed, later = bench.run(asks)
    assert [(len(events), type(events[-1])) for events in failed] == [(7, Failed)] * 2
    assert tokens_of(later) == expected


def test_a_shared_beginning_is_read_once_in_each_scope(
    monkeypatch: pytest.MonkeyPatch, loaded_of: Callable[[str], LoadedModel]
) -> None:
    bench = Bench(loaded_of("llama"), 2000, keeps=True)
    shapes = watch(monkeypatch, loaded_of("llama").model)
    asks = [
        Ask(3, 1, False, 0, None, shared=45),
        Ask(2, 1, False, 0, None, shared=45),
        Ask(1, 1, False, 1, None, shared=45, scope="own"),
        Ask(2, 1, False, 2, None, shared=45, scope="own"),
        Ask(5, 1, False, 3, None),
    ]
    ends = [events[-1] for events in bench.run(asks)]
    assert [length for _, length in shapes] == [45 + 17, 45 + 8 - 32, 45 + 3, 45 + 8 - 32, 40]
    assert ends == [Finished("length", cached) for cached in (0, 32, 0, 32, 0)]


def test_a_conversation_goes_on_where_it_ended(
    monkeypatch: pytest.MonkeyPatch, loaded_of: Callable[[str], LoadedModel]
) -> None:
    loaded = loaded_of("llama")
    bench = Bench(loaded, 2000, keeps=True)
    first = Ask(5, 26, False, 0, None)
    [events] = bench.run([first])
    spoken = (*first.prompt_ids, *tokens_of(events))
    assert len(spoken) == 2 * BLOCK_TOKENS + 2
    monkeypatch.setattr(Ask, "prompt_ids", (*spoken, 7, 8, 9))
    shapes = watch(monkeypatch, loaded.model)
    [events] = bench.run([Ask(0, 1, False, bench.steps, None)])
    assert shapes == [(1, 2 + 3)]
    assert events[-1] == Finished("length", 2 * BLOCK_TOKENS)
    monkeypatch.undo()
    assert tokens_of(events) == generate_alone(loaded.model, ([*spoken, 7, 8, 9], 1))[0]


def test_what_a_failed_request_has_read_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, loaded_of: Callable[[str], LoadedModel]
) -> None:
    bench = Bench(loaded_of("llama"), 2000, keeps=True)
    chosen = iter([5, 6, None])
    monkeypatch.setattr(continuous, "choose_tokens", lambda *_: [next(chosen)])
    [failed] = bench.run([Ask(2, 9, False, 0, None, shared=45)])
    assert [type(event) for event in failed] == [Started, Token, Token, Failed]
    assert bench.prefixes.tokens == BLOCK_TOKENS  # its prompt, which was read well
    bench.prefixes.clear()
    monkeypatch.setattr(continuous, "choose_tokens", lambda *_: [None])
    bench.run([Ask(2, 9, False, bench.steps, None, shared=45)])
    assert bench.prefixes.tokens == 0


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
