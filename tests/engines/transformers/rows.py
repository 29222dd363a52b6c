"""Requests to a model in continuous batches, stepped by hand."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from mooring.engines.contract import CacheUse
from mooring.engines.sequence import Sequence
from mooring.engines.transformers.captured import CapturedStep, Run
from mooring.engines.transformers.columns import Columns
from mooring.engines.transformers.continuous import Continuous
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.pace import Pace
from mooring.engines.transformers.prefixes import PrefixStore
from mooring.engines.transformers.row import Row
from mooring.engines.transformers.speculation import Draft, Speculation
from mooring.engines.transformers.trial import try_columns, try_ragged
from mooring.generation import Event, Finished, GenerationRequest, SamplingParams, Token
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


class Fixed(Pace):
    """Lets so many tokens be read between two steps, whatever they take."""

    def __init__(self, tokens: int = 512) -> None:
        super().__init__()
        self._tokens = tokens

    def budget(self, rows: int) -> int:
        return self._tokens


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


def run_again(run: Run) -> Run:
    """Stand in for a GPU, which would replay the kernels: run the step again, in the same place."""
    return run


class Bench:
    """A model in continuous batches, stepped by hand."""

    def __init__(
        self,
        loaded: LoadedModel,
        most_tokens: int,
        *,
        keeps: bool = False,
        speculation: Speculation | None = None,
        ragged: bool = False,
        captured: CapturedStep | None = None,
        pace: Pace | None = None,
    ) -> None:
        like = try_columns(loaded)
        assert like is not None
        self.prefixes = PrefixStore(most_tokens if keeps else 0)
        self.most_tokens = most_tokens
        self.columns = Columns(like, most_tokens, self._share if keeps else lambda cells: None)
        self.steps = 0
        self._continuous = Continuous(
            loaded,
            self.columns,
            frozenset([END]),
            self.prefixes,
            speculation,
            ragged=try_ragged(loaded) if ragged else None,
            captured=captured,
            pace=pace or Fixed(),
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


def watch(monkeypatch: pytest.MonkeyPatch, model: Any) -> list[tuple[int, int]]:
    shapes: list[tuple[int, int]] = []
    forward: Callable[..., Any] = model.forward

    def watched(**kwargs: Any) -> Any:
        shapes.append(tuple(kwargs["input_ids"].shape))
        return forward(**kwargs)

    watched.__wrapped__ = forward  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "forward", watched)
    return shapes
