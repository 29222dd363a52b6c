"""The engine is never left without work, and who floods gives way."""

import asyncio
from typing import Any

import pytest

from mooring.errors import InvalidParameter, ServerBusy
from mooring.generation import Finished, RawText, SamplingParams, TextRequest, Token
from mooring.observe.record import RequestRecord
from mooring.service.stream import TextStream
from mooring.service.text_service import PreparedRequest, TextService
from mooring.settings import ServiceLimits
from tests.service.test_stream import Recorded
from tests.service.texts import CHAT, ByteTokenizer


class Bench:
    """A service on an engine that runs four side by side and has one more at hand."""

    def __init__(self, **limits: int) -> None:
        self.engine = Recorded()
        self.service = TextService(
            engine=self.engine,
            capabilities=self.engine.start(),
            tokenizer=ByteTokenizer(),
            prompt_format=CHAT,
            defaults=SamplingParams(),
            limits=ServiceLimits(**limits),
        )

    async def prepare(self, text: str, **sampling: Any) -> PreparedRequest:
        request = TextRequest(RawText(text), SamplingParams().update(sampling))
        return await self.service.prepare(request)

    async def start(self, text: str, caller: str = "", **sampling: Any) -> TextStream:
        prepared = await self.prepare(text, **sampling)
        return self.service.start_all([prepared], RequestRecord(key=caller or None))

    async def start_many(self, *texts: str) -> list[TextStream]:
        """Start one of each text, for the caller that it begins with."""
        return [await self.start(text, text[0]) for text in texts]

    @property
    def handed(self) -> list[str]:
        """The prompts that the engine was given."""
        return [bytes(r.prompt_ids[1:]).decode() for r, _ in self.engine.submitted]

    async def end(self, index: int, tokens: int = 1) -> None:
        """Let the engine end a sequence that it was given."""
        emit = self.engine.submitted[index][1]
        for _ in range(tokens):
            emit(Token(98))
        emit(Finished("stop"))
        await asyncio.sleep(0.001)


def test_the_engine_has_one_more_at_hand_and_gets_the_next_when_one_ends() -> None:
    async def test() -> None:
        bench = Bench()
        await bench.start_many("a1", "a2", "a3", "a4", "a5", "a6", "a7", "b1")
        assert bench.handed == ["a1", "a2", "a3", "a4", "a5"]
        await bench.end(0)
        assert bench.handed[5:] == ["b1"]
        await bench.end(1)
        await bench.end(2)
        assert bench.handed[6:] == ["a6", "a7"]
        assert bench.service.activity.sequences == 5

    asyncio.run(test())


def test_what_is_given_up_before_its_turn_never_reaches_the_engine() -> None:
    async def test() -> None:
        bench = Bench()
        streams = await bench.start_many("a1", "a2", "a3", "a4", "a5", "a6", "a7")
        await streams[5].aclose()
        assert bench.service.activity.sequences == 6
        assert bench.engine.cancelled == []
        await bench.end(0)
        assert bench.handed[5:] == ["a7"]

    asyncio.run(test())


def test_what_the_engine_refuses_when_its_turn_has_come_fails_alone() -> None:
    async def test() -> None:
        bench = Bench()
        streams = await bench.start_many("a1", "a2", "a3", "a4", "a5", "a6", "a7")
        refused = InvalidParameter("no", param="stop")
        bench.engine.refuses = {"sequence-5": refused}
        await bench.end(0)
        with pytest.raises(InvalidParameter, match="no"):
            await streams[5].collect()
        assert bench.handed[5:] == ["a7"]
        assert bench.service.activity.sequences == 5

    asyncio.run(test())


def test_in_a_full_room_who_has_most_waiting_gives_way_to_who_has_less() -> None:
    async def test() -> None:
        bench = Bench(max_waiting=5)
        flood = await bench.start_many(*[f"a{number}" for number in range(9)])
        with pytest.raises(ServerBusy, match="holds at most 9 sequences"):
            await bench.start("a9", "a")
        await bench.start("b0", "b")
        with pytest.raises(ServerBusy, match="others have fewer requests waiting than you") as busy:
            await flood[8].collect()
        assert busy.value.retry_seconds is not None
        await bench.start("b1", "b")
        with pytest.raises(ServerBusy, match="others have fewer"):
            await flood[7].collect()
        with pytest.raises(ServerBusy, match="holds at most 9 sequences"):
            await bench.start("b2", "b")
        assert bench.service.activity.sequences == 9
        await bench.end(0)
        assert bench.handed[5:] == ["b0"]

    asyncio.run(test())


def test_waiting_tokens_are_shared_like_places() -> None:
    async def test() -> None:
        bench = Bench(max_waiting_tokens=60)
        flood = await bench.start_many(*["a" * 9] * 4)
        for _, emit in bench.engine.submitted:
            emit(Token(98))
        await asyncio.sleep(0.001)
        flood += await bench.start_many(*["a" * 9] * 6)
        with pytest.raises(ServerBusy, match="At most 60 prompt tokens"):
            await bench.start("a" * 9, "a")
        await bench.start("b" * 9, "b")
        with pytest.raises(ServerBusy, match="others have fewer"):
            await flood[9].collect()
        assert bench.service.activity.waiting_tokens == 60

    asyncio.run(test())


def test_a_call_that_still_runs_gives_its_place_up_at_once() -> None:
    async def test() -> None:
        bench = Bench(max_waiting=6)
        prepared = await bench.prepare("text")
        record = RequestRecord(key="a")
        flood = [
            asyncio.create_task(bench.service.complete_all([prepared], record)) for _ in range(10)
        ]
        await asyncio.sleep(0.001)
        assert bench.service.activity.sequences == 10
        for caller in "bc":
            bench.service.start_all([prepared], RequestRecord(key=caller))
            assert bench.service.activity.sequences == 10
        await asyncio.wait(flood[8:])
        assert [call.done() for call in flood] == [False] * 8 + [True] * 2
        for call in flood[8:]:
            assert isinstance(call.exception(), ServerBusy)
        for call in flood[:8]:
            call.cancel()
        await asyncio.wait(flood)

    asyncio.run(test())


def test_nobody_gives_way_to_what_does_not_get_in() -> None:
    async def test() -> None:
        bench = Bench(max_waiting=5, max_waiting_tokens=60)
        await bench.start_many(*["a" * 9] * 4)
        for _, emit in bench.engine.submitted:
            emit(Token(98))
        await asyncio.sleep(0.001)
        flood = await bench.start_many(*["a" * 9] * 5)
        with pytest.raises(ServerBusy, match="holds at most 9 sequences"):
            await bench.start("b" * 49, "b")
        assert (bench.service.activity.sequences, bench.service.load.waiting) == (9, 4)
        await bench.start("b" * 9, "b")
        with pytest.raises(ServerBusy, match="others have fewer"):
            await flood[4].collect()

    asyncio.run(test())


def test_each_caller_has_prefixes_of_its_own() -> None:
    async def test() -> None:
        bench = Bench()
        await bench.start_many("a1", "b1")
        assert [request.cache_scope for request, _ in bench.engine.submitted] == ["a", "b"]
        for salt in ("x", "x", "y"):
            request = TextRequest(RawText("a"), SamplingParams(), cache_salt=salt)
            prepared = await bench.service.prepare(request)
            bench.service.start_all([prepared], RequestRecord(key="a"))
        scopes = [request.cache_scope for request, _ in bench.engine.submitted]
        assert (scopes[2] == scopes[3], len(set(scopes))) == (True, 4)

    asyncio.run(test())


def test_only_what_waits_is_refused_at_the_end() -> None:
    async def test() -> None:
        bench = Bench()
        streams = await bench.start_many("a1", "a2", "a3", "a4", "a5", "a6")
        assert [stream.waits for stream in streams] == [False] * 4 + [True] * 2
        bench.service.refuse_waiting(ServerBusy("ending"))
        for stream in streams[4:]:
            with pytest.raises(ServerBusy, match="ending"):
                await stream.collect()
        assert len(bench.handed) == 5
        await bench.end(0)
        assert (await streams[0].collect())[0].text == "b"

    asyncio.run(test())


def test_what_was_being_prepared_when_the_end_began_does_not_wait_either() -> None:
    async def test() -> None:
        bench = Bench()
        prepared = await bench.prepare("late")
        streams = await bench.start_many("a1", "a2", "a3")
        bench.service.refuse_waiting(ServerBusy("ending"))
        streams.append(bench.service.start(prepared))
        with pytest.raises(ServerBusy, match="ending"):
            bench.service.start(prepared)
        with pytest.raises(ServerBusy, match="ending"):
            await bench.service.complete_all([prepared])
        assert bench.handed == ["a1", "a2", "a3", "late"]
        assert bench.service.activity.sequences == 4
        await bench.end(3)
        assert (await streams[3].collect())[0].text == "b"

    asyncio.run(test())
