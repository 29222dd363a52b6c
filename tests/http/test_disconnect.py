import asyncio
import json
import time
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from mooring.engines.echo import EchoSettings
from mooring.http.disconnect import unless_client_leaves
from mooring.settings import ServerLimits, ServerSettings, ServiceLimits
from tests.http.serving import Running, running_server, wait_until

LONG = {"model": "demo", "prompt": "x" * 3000}


def request_bytes(path: str, body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


@pytest.mark.parametrize(
    ("path", "body", "sequences"),
    [
        ("/v1/completions", LONG, 1),
        ("/v1/completions", {**LONG, "n": 3}, 3),
        ("/v1/completions", {**LONG, "stream": True}, 1),
        ("/v1/completions", {**LONG, "stream": True, "n": 3}, 3),
        ("/invocations", {"inputs": ["x" * 3000] * 3}, 3),
    ],
)
def test_a_client_that_leaves_cancels_its_work(
    slow: Running, path: str, body: Any, sequences: int
) -> None:
    with slow.raw_socket() as connection:
        connection.sendall(request_bytes(path, body))
        wait_until(lambda: slow.service.activity.sequences == sequences)
        time.sleep(0.05)
    left = time.monotonic()
    slow.wait_idle()
    assert time.monotonic() - left < 1


def test_a_client_that_leaves_in_mid_stream_cancels_it(slow: Running) -> None:
    with (
        slow.client as client,
        client.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as response,
    ):
        lines = response.iter_lines()
        while not next(lines).startswith("data: "):
            pass
        assert slow.service.activity.sequences == 1
    slow.wait_idle()


def test_a_client_that_leaves_before_its_turn_leaves_the_queue() -> None:
    engine = EchoSettings(seconds_per_token=0.02, max_running=1)
    settings = ServerSettings(
        limits=ServiceLimits(max_waiting=3), server=ServerLimits(drain_seconds=0.1)
    )
    with running_server(engine, settings) as running:
        with running.raw_socket() as first, running.raw_socket() as second:
            first.sendall(request_bytes("/v1/completions", LONG))
            wait_until(lambda: running.service.activity.sequences == 1)
            second.sendall(request_bytes("/v1/completions", {**LONG, "stream": True}))
            wait_until(lambda: running.service.activity.sequences == 2)
            second.close()
            wait_until(lambda: running.service.activity.sequences == 1)
        running.wait_idle()


def test_others_are_not_disturbed(slow: Running) -> None:
    with slow.raw_socket() as connection:
        connection.sendall(request_bytes("/v1/completions", {**LONG, "n": 4, "stream": True}))
        wait_until(lambda: slow.service.activity.sequences == 4)
        answer = slow.post("/v1/completions", {"model": "demo", "prompt": "a" * 30})
    assert answer.json()["choices"][0]["text"] == "a" * 30
    slow.wait_idle()


def test_a_client_that_leaves_while_sending_its_body_is_harmless(echo: Running) -> None:
    with echo.raw_socket() as connection:
        connection.sendall(request_bytes("/v1/completions", LONG)[:-100])
        time.sleep(0.05)
    assert echo.post("/v1/completions", {"model": "demo", "prompt": "a"}).status_code == 200


def test_work_that_ends_first_is_returned() -> None:
    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def work() -> str:
        await asyncio.sleep(0.01)
        return "done"

    async def test() -> None:
        before = asyncio.all_tasks()
        assert await unless_client_leaves(never, work()) == "done"
        assert asyncio.all_tasks() == before

    asyncio.run(test())


def test_work_is_cancelled_and_awaited_when_the_client_leaves() -> None:
    ended = []

    async def leave() -> Message:
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def test() -> None:
        with pytest.raises(ClientDisconnect):
            await unless_client_leaves(leave, work())
        assert ended == [True]

    asyncio.run(test())


def test_the_error_of_the_work_is_raised() -> None:
    async def leave() -> Message:
        await asyncio.sleep(10)
        return {"type": "http.disconnect"}

    async def work() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(unless_client_leaves(leave, work()))
