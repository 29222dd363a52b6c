import asyncio
from dataclasses import replace
from typing import Any

import pytest

from mooring.engines.contract import Capabilities, Emit, Load
from mooring.errors import MooringError, RequestFailed
from mooring.generation import (
    Event,
    Finished,
    GenerationRequest,
    RawText,
    SamplingParams,
    Started,
    TextRequest,
    Token,
)
from mooring.observe.record import RequestRecord
from mooring.service.text_service import TextService
from tests.service.texts import CHAT, ByteTokenizer


def asked(text: str, **sampling: Any) -> TextRequest:
    return TextRequest(RawText(text), SamplingParams().update(sampling))


class Recorded:
    """An engine that only remembers: each test says what it emits and refuses."""

    def __init__(self) -> None:
        self.submitted: list[tuple[GenerationRequest, Emit]] = []
        self.cancelled: list[str] = []
        self.refuses: dict[str, MooringError] = {}

    def start(self) -> Capabilities:
        return Capabilities("recorded", "1", "cpu", "exact", 64, 300, 4)

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        if request.id in self.refuses:
            raise self.refuses[request.id]
        self.submitted.append((request, emit))

    def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)

    def load(self) -> Load:
        return Load(len(self.submitted), 0, 0)

    def close(self) -> None:
        return


def recorded_service() -> tuple[TextService, Recorded]:
    engine = Recorded()
    service = TextService(
        engine=engine,
        capabilities=engine.start(),
        tokenizer=ByteTokenizer(),
        prompt_format=CHAT,
        defaults=SamplingParams(),
    )
    return service, engine


def test_each_completion_of_a_seeded_request_has_its_own_seed() -> None:
    async def test() -> None:
        service, engine = recorded_service()
        stream = service.start(await service.prepare(asked("a", n=3, seed=7)))
        assert [request.sampling.seed for request, _ in engine.submitted] == [7, 8, 9]
        assert len({request.id for request, _ in engine.submitted}) == 3
        await stream.aclose()
        assert engine.cancelled == [request.id for request, _ in engine.submitted]

    asyncio.run(test())


def test_places_are_held_until_the_engine_lets_go() -> None:
    async def test() -> None:
        service, engine = recorded_service()
        stream = service.start(await service.prepare(asked("a")))
        await stream.aclose()
        assert service.activity.sequences == 1
        emit(engine, Finished("cancelled"))
        await asyncio.sleep(0)
        assert service.activity.sequences == 0

    asyncio.run(test())


def test_a_start_ends_the_wait_and_says_what_was_cached() -> None:
    async def test() -> None:
        service, engine = recorded_service()
        stream = service.start(await service.prepare(asked("abc", stop="!")))
        assert service.activity.waiting_tokens == 4
        emit(engine, Started(2))
        await asyncio.sleep(0)
        assert (service.activity.waiting_tokens, stream.begun, stream.buffered) == (0, True, 0)
        emit(engine, Token(ord("b")), Token(ord("!")))
        (completion,) = await stream.collect()
        assert (completion.text, completion.reason, completion.cached_tokens) == ("b", "stop", 2)

    asyncio.run(test())


def test_what_comes_after_the_end_of_an_answer_changes_nothing_that_was_noted() -> None:
    async def test() -> None:
        service, engine = recorded_service()
        record = RequestRecord()
        stream = service.start_all([await service.prepare(asked("abc", stop="!"))], record)
        emit(engine, Started(2), Token(ord("b")), Token(ord("!")))
        await stream.collect()
        (noted,) = record.sequences
        assert (noted.tokens, noted.cached_tokens, noted.end) == (2, 2, "stop")
        before = replace(noted)
        emit(engine, Token(ord("c")), Finished("cancelled", 3))
        await asyncio.sleep(0)
        assert service.activity.sequences == 0
        assert (noted, stream.cached_tokens, stream.buffered) == (before, [2], 0)

    asyncio.run(test())


def test_what_an_engine_cancels_by_itself_is_a_failure() -> None:
    async def test() -> None:
        service, engine = recorded_service()
        stream = service.start(await service.prepare(asked("a")))
        emit(engine, Token(ord("b")), Finished("cancelled"))
        with pytest.raises(RequestFailed, match="gave this request up"):
            await stream.collect()

    asyncio.run(test())


def test_events_for_a_loop_that_has_closed_are_dropped() -> None:
    async def begin(service: TextService) -> None:
        service.start(await service.prepare(asked("a")))

    service, engine = recorded_service()
    asyncio.run(begin(service))
    emit(engine, Token(98), Finished("stop"))


def emit(engine: Recorded, *events: Event) -> None:
    for event in events:
        engine.submitted[-1][1](event)
