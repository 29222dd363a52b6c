"""Who floods the server waits for themselves: another caller's requests are answered in between."""

import asyncio
import time
from collections.abc import Iterator
from statistics import mean

import httpx
import pytest

from mooring.engines.echo import EchoSettings
from mooring.service.keys import digest_of
from mooring.settings import AccessSettings, ApiKey, ServerLimits, ServerSettings, ServiceLimits
from tests.http.serving import PATIENCE, Running, running_server

KEYS = tuple(ApiKey(name, digest_of(name.encode())) for name in ("flood", "calm"))
TOKENS = 20


@pytest.fixture
def server() -> Iterator[Running]:
    """Four sequences run at once, each some 0.1 s long, and twenty may wait."""
    settings = ServerSettings(
        limits=ServiceLimits(max_waiting=20),
        server=ServerLimits(drain_seconds=PATIENCE),
        access=AccessSettings(KEYS),
    )
    with running_server(EchoSettings(seconds_per_token=0.005, max_running=4), settings) as running:
        yield running


async def ask(client: httpx.AsyncClient, key: str) -> tuple[int, float]:
    """Return status and seconds of one answer."""
    body = {"model": "demo", "prompt": "x" * TOKENS, "max_tokens": TOKENS}
    began = time.monotonic()
    headers = {"authorization": f"Bearer {key}"}
    response = await client.post("/v1/completions", json=body, headers=headers)
    if response.status_code == 200:
        assert response.json()["choices"][0]["text"] == "x" * (TOKENS - 1)
    else:
        assert response.json()["error"]["code"] == "server_busy"
        assert int(response.headers["retry-after"]) >= 1
    return response.status_code, time.monotonic() - began


async def flood(client: httpx.AsyncClient, done: asyncio.Event) -> list[tuple[int, float]]:
    """Send the next request as soon as there is an answer, whatever it says."""
    found = []
    while not done.is_set():
        found.append(await ask(client, "flood"))
        await asyncio.sleep(0.01)
    return found


async def both(server: Running) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    limits = httpx.Limits(max_connections=100)
    url = server.url
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits) as client:
        done = asyncio.Event()
        flooding = [asyncio.create_task(flood(client, done)) for _ in range(50)]
        while server.service.activity.sequences < server.service.activity.limit:
            await asyncio.sleep(0.001)
        calm = [await ask(client, "calm") for _ in range(8)]
        done.set()
        return [one for task in flooding for one in await task], calm


def test_a_key_that_floods_does_not_hold_up_another(server: Running) -> None:
    flooding, calm = asyncio.run(both(server))
    assert {status for status, _ in calm} == {200}
    assert {status for status, _ in flooding} == {200, 503}
    waits = [seconds for status, seconds in flooding if status == 200]
    assert mean(seconds for _, seconds in calm) < mean(waits)
    server.wait_idle()
    assert server.service.load.waiting == 0
