"""A real server in a thread of the test, answering with the echo engine."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from openai import AsyncOpenAI, OpenAI

from mooring.engines.echo import EchoSettings
from mooring.http.server import ModelServer, bind
from mooring.observe.observers import Observers
from mooring.service.host import ModelHost, ModelIdentity
from mooring.service.text_service import TextService
from mooring.settings import ServerLimits, ServerSettings
from tests.service.texts import echo_service

IDENTITY = ModelIdentity(
    name="demo", version="3", digest="0123456789abcdef", created=1_700_000_000,
    served_names=("demo", "org/champion"),
)  # fmt: skip
LABEL = "demo/3@0123456789ab"

PATIENCE = 10.0


@dataclass
class Running:
    """A server that answers at `url`; its parts are at hand for the test to look at."""

    url: str
    service: TextService
    host: ModelHost
    server: ModelServer
    thread: threading.Thread
    announced: list[tuple[str, str]] = field(default_factory=list)

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=PATIENCE)

    @property
    def openai(self) -> OpenAI:
        """Return a client that checks every answer against OpenAI's types."""
        return OpenAI(**self._client_options, _strict_response_validation=True)

    @property
    def lenient_openai(self) -> OpenAI:
        """Return a client for streamed completions.

        OpenAI sends null as finish reason until the end; its own types do not say so.
        """
        return OpenAI(**self._client_options)

    @property
    def async_openai(self) -> AsyncOpenAI:
        return AsyncOpenAI(**self._client_options, _strict_response_validation=True)

    @property
    def _client_options(self) -> dict[str, Any]:
        return {
            "base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0, "timeout": PATIENCE,
        }  # fmt: skip

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        with self.client as client:
            return client.post(path, json=body, headers=headers)

    def raw_socket(self) -> socket.socket:
        url = httpx.URL(self.url)
        return socket.create_connection((url.host, url.port or 0), timeout=PATIENCE)

    def wait_idle(self) -> None:
        wait_until(lambda: self.service.activity.sequences == 0)


def wait_until(done: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@contextmanager
def running_server(
    engine: EchoSettings | None = None,
    settings: ServerSettings | None = None,
    observe: Callable[[ModelHost], Observers] | None = None,
    **service: Any,
) -> Iterator[Running]:
    """Yield a server that is ready; it is stopped, and must be idle, at the end."""
    settings = settings or ServerSettings(port=0, server=ServerLimits(drain_seconds=PATIENCE))
    with (
        echo_service(engine, limits=settings.limits, **service) as loaded,
        serving(loaded, settings, observe) as running,
    ):
        yield running


@contextmanager
def serving(
    loaded: TextService,
    settings: ServerSettings,
    observe: Callable[[ModelHost], Observers] | None = None,
) -> Iterator[Running]:
    """Yield a server of this service; it is stopped, and must be idle, at the end."""
    host = ModelHost(IDENTITY)
    server = ModelServer(host, settings, observe(host) if observe else None)
    announced: list[tuple[str, str]] = []
    listener = bind("127.0.0.1", 0)
    live = server.live(listener, lambda: loaded, lambda url: announced.append((url, host.state)))
    thread = threading.Thread(target=asyncio.run, args=(live,), daemon=True)
    thread.start()
    wait_until(lambda: len(announced) == 2)
    running = Running(announced[0][0], loaded, host, server, thread, announced)
    try:
        yield running
    finally:
        server.stop()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert loaded.activity.sequences == 0
