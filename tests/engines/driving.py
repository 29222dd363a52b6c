"""Drives an engine from a test: sends requests, records their events, waits for their ends."""

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mooring.engines.contract import Engine
from mooring.generation import (
    NO_LOGPROBS,
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Grammar,
    Likelihood,
    LogprobsWanted,
    PromptRead,
    SamplingParams,
    Started,
    Text,
    Token,
)

DEADLINE_SECONDS = 30
_numbers = itertools.count()


class Answer:
    """The events of one request as they come; `on_token` runs in the engine's own thread."""

    def __init__(self, id: str, on_token: Callable[["Answer"], None] | None) -> None:
        self.id = id
        self.events: list[Event] = []
        self._on_token = on_token
        self._ended = threading.Event()

    def receive(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Finished | Failed):
            self._ended.set()
        elif self._on_token is not None and not isinstance(event, Started | PromptRead):
            self._on_token(self)

    @property
    def tokens(self) -> list[int]:
        return [event.id for event in self.events if isinstance(event, Token)]

    @property
    def likelihoods(self) -> list[Likelihood | None]:
        return [event.likelihood for event in self.events if isinstance(event, Token)]

    @property
    def prompt(self) -> list[tuple[Likelihood, ...]]:
        return [event.likelihoods for event in self.events if isinstance(event, PromptRead)]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Text))

    def wait(self) -> "Answer":
        assert self._ended.wait(DEADLINE_SECONDS), f"{self.id} did not end: {self.events}"
        return self

    @property
    def end(self) -> Finished | Failed:
        event = self.wait().events[-1]
        assert isinstance(event, Finished | Failed)
        return event


def ask(
    engine: Engine,
    prompt: Sequence[int],
    *,
    id: str | None = None,
    on_token: Callable[[Answer], None] | None = None,
    generated: Sequence[int] = (),
    max_tokens: int | None = None,
    logprobs: LogprobsWanted = NO_LOGPROBS,
    grammar: Grammar | None = None,
    needs_ids: bool = False,
    banned: Sequence[tuple[int, ...]] = (),
    **sampling: Any,
) -> Answer:
    """Submit a request, greedy unless told otherwise, and return its answer to come."""
    answer = Answer(id or f"request-{next(_numbers)}", on_token)
    params = replace(SamplingParams(temperature=0.0).update(sampling), max_tokens=max_tokens)
    request = GenerationRequest(
        answer.id, tuple(prompt), params, tuple(generated),
        logprobs=logprobs, grammar=grammar, needs_ids=needs_ids, banned=tuple(banned),
    )  # fmt: skip
    engine.submit(request, answer.receive)
    return answer


def engine_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "engine"]
