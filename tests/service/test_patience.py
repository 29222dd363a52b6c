"""An answer that takes too long ends with an error, and its places come back."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mooring.engines.echo import EchoSettings
from mooring.errors import DeadlineExceeded, InvalidParameter, InvalidPrompt, MooringError
from mooring.generation import Conversation, Message, RawText, SamplingParams, TextRequest
from mooring.service.admission import Activity
from mooring.service.text_service import TextService
from mooring.settings import ServiceLimits
from tests.service.texts import echo_service

LONG = TextRequest(RawText("x" * 200))


async def _idle(service: TextService) -> None:
    async with asyncio.timeout(10):
        while service.activity != Activity(0, service.activity.limit):
            await asyncio.sleep(0.005)


def failure(limits: ServiceLimits, seconds_per_token: float, requests: int = 1) -> str:
    """Return how one call fails; the service must be idle afterwards."""

    async def ask(service: TextService) -> str:
        prepared = await service.prepare_all([LONG] * requests)
        with pytest.raises(DeadlineExceeded) as error:
            await service.complete_all(prepared)
        await _idle(service)
        return error.value.message

    engine = EchoSettings(seconds_per_token=seconds_per_token, max_running=1)
    with echo_service(engine, limits=limits) as service:
        return asyncio.run(ask(service))


def test_the_first_token_must_come_in_time() -> None:
    limits = ServiceLimits(first_token_seconds=0.1)
    assert failure(limits, 0.5) == "The first token must come within 0.1 s."


def test_the_next_token_must_come_in_time() -> None:
    limits = ServiceLimits(token_seconds=0.1)
    assert failure(limits, 0.5) == "The next token must come within 0.1 s."


@pytest.mark.parametrize("requests", [1, 3])
def test_the_whole_answer_must_come_in_time(requests: int) -> None:
    limits = ServiceLimits(request_seconds=0.2)
    assert failure(limits, 0.01, requests) == "The answer must be whole within 0.2 s."


def test_rows_that_each_are_quick_must_be_quick_together() -> None:
    limits = ServiceLimits(request_seconds=2.5)
    assert failure(limits, 0.005, 5) == "The answer must be whole within 2.5 s."


def test_an_answer_in_time_leaves_no_timer() -> None:
    async def ask(service: TextService) -> None:
        await service.complete_all(await service.prepare_all([LONG]))
        await _idle(service)
        loop = asyncio.get_running_loop()
        assert [t for t in loop._scheduled if not t.cancelled()] == []  # type: ignore[attr-defined]

    with echo_service() as service:
        asyncio.run(ask(service))


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda s: s.sampling({"n": 3}), InvalidParameter, "`n` must be <= 2. Given: 3."),
        (
            lambda s: s.sampling({"stop": ["a", "b"]}),
            InvalidParameter,
            "The number of `stop` strings must be <= 1. Given: 2.",
        ),
        (
            lambda s: s.render(Conversation((Message("user", "a"),) * 4)),
            InvalidPrompt,
            "`messages` must hold at most 3 messages. Given: 4.",
        ),
    ],
)
def test_the_bounds_of_fields_can_be_lowered(
    ask: Callable[[TextService], Any], kind: type[MooringError], message: str
) -> None:
    with echo_service(limits=ServiceLimits(max_n=2, max_stop=1, max_messages=3)) as service:
        service.sampling({"n": 2, "stop": "a"})
        with pytest.raises(kind) as error:
            ask(service)
    assert error.value.message == message


def test_defaults_are_held_to_the_bounds_as_well() -> None:
    with echo_service(limits=ServiceLimits(max_n=2), n=2) as service:
        assert service.sampling({}) == SamplingParams(n=2)
