"""HTTP to a server: its health, its models, and streamed answers line by line."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import msgspec

from mooring.engines.upstream.dialect import NotUnderstood

MAX_LINE_BYTES = 1_048_576
_CONNECT_SECONDS = 5.0
_HEALTH_SECONDS = 5.0


class ConnectionLost(Exception):
    """The server could not be reached, or left within an answer."""


class Refusal(Exception):
    """The server answered with another status than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Connection:
    """Speaks to the server at `url` in one event loop; `heard` is called when it says something.

    No proxy of the environment is used, and no redirect followed.
    """

    def __init__(self, url: str, api_key: str | None, heard: Callable[[], None]) -> None:
        self._heard = heard
        self._client = httpx.AsyncClient(
            base_url=url,
            trust_env=False,
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def is_healthy(self) -> bool:
        """Return whether `/health` answers 200, or is unknown to a server that answers."""
        try:
            response = await self._client.get("/health", timeout=_HEALTH_SECONDS)
        except httpx.HTTPError:
            return False
        if response.status_code not in (200, 404):
            return False
        self._heard()
        return True

    async def first_model(self) -> Mapping[str, Any]:
        """Return what `/v1/models` says of its first model, nothing if it does not answer so."""
        try:
            response = await self._client.get("/v1/models", timeout=_HEALTH_SECONDS)
            model = response.raise_for_status().json()["data"][0]
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            return {}
        return model if isinstance(model, dict) else {}

    async def ask(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Mapping[str, Any]]:
        """Send a request and yield the messages of its event stream, without the last `[DONE]`.

        An answer that is no stream is one message.
        Raises `ConnectionLost`, `Refusal`, or `NotUnderstood` for what is no JSON object.
        """
        try:
            async with self._client.stream("POST", path, json=body) as response:
                if response.status_code != 200:
                    raise Refusal(response.status_code)
                async for line in self._lines(response):
                    data = line.removeprefix(b"data:").strip()
                    if data == b"[DONE]":
                        return
                    if data and line.startswith((b"data:", b"{")):
                        yield _message(data)
        except httpx.HTTPError as error:
            raise ConnectionLost(type(error).__name__) from None

    async def _lines(self, response: httpx.Response) -> AsyncIterator[bytes]:
        rest = b""
        async for part in response.aiter_bytes():
            self._heard()
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield line
            if len(rest) > MAX_LINE_BYTES:
                raise NotUnderstood(f"it sent a line of more than {MAX_LINE_BYTES} bytes")
        yield rest


def _message(data: bytes) -> Mapping[str, Any]:
    try:
        message = msgspec.json.decode(data)
    except msgspec.DecodeError:
        raise NotUnderstood("it sent an event that is not JSON") from None
    if not isinstance(message, dict):
        raise NotUnderstood("it sent an event that is no JSON object")
    if message.get("error"):
        raise NotUnderstood("it sent an error within an answer")
    return message
