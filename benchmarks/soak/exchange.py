"""One request over one connection, spoken by hand: sent, read as it comes, timed, cut at will."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

_READ_BYTES = 65_536
_END = b"data: [DONE]\n\n"


@dataclass
class Exchange:
    """What was asked and what came; times in seconds from the moment of asking.

    `status` is 0 while there is no answer, and stays so if the connection ended without one.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    first: float | None = None
    seconds: float = 0.0
    gaps: list[float] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text of a completion, streamed or whole."""
        if self.body.startswith(b"{"):
            return str(json.loads(self.body)["choices"][0]["text"])
        return "".join(
            choice["text"] for event in self.events for choice in event.get("choices", ())
        )

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of a stream, but for the last, which is no JSON."""
        lines = self.body.decode().split("\n\n")
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        return [json.loads(line) for line in data if line != "[DONE]"]

    @property
    def error(self) -> str | None:
        """The code of the error that the answer is, or ends with."""
        if self.body.startswith(b"{"):
            found = json.loads(self.body).get("error")
        else:
            found = self.events[-1].get("error") if self.events else None
        return str(found["code"]) if found else None

    @property
    def ended(self) -> bool:
        """Whether the answer is whole: a stream has its last event."""
        return self.status != 0 and (not self._streams or self.body.endswith(_END))

    @property
    def _streams(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")


def request(path: str, body: bytes, *headers: str) -> bytes:
    """Return the bytes of a POST that asks for the connection to be closed."""
    lines = (
        f"POST {path} HTTP/1.1",
        "host: localhost",
        "content-type: application/json",
        "connection: close",
        f"content-length: {len(body)}",
        *headers,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def completion(prompt: str | list[str], *headers: str, **fields: Any) -> bytes:
    """Return the bytes of a streamed completion of `prompt`, to be echoed once."""
    body = {"model": "echo", "prompt": prompt, "stream": True, **fields}
    return request("/v1/completions", json.dumps(body).encode(), *headers)


async def exchange(
    port: int, sent: bytes, *, cut_after: float | None = None, seconds: float = 120.0
) -> Exchange:
    """Send `sent` and read until the server closes, or for `cut_after` seconds and then leave.

    Raises `TimeoutError` after `seconds`, and `OSError` if there is no connection to be had.
    """
    began = time.monotonic()
    found = Exchange()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        writer.write(sent)
        async with asyncio.timeout(seconds if cut_after is None else cut_after):
            await _read(reader, found, began)
    except TimeoutError:
        if cut_after is None:
            raise
    except ConnectionError:
        pass
    finally:
        found.seconds = time.monotonic() - began
        writer.transport.abort()
    return found


async def _read(reader: asyncio.StreamReader, found: Exchange, began: float) -> None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return
    status, *lines = head.strip().split("\r\n")
    found.status = int(status.split(" ", 2)[1])
    found.headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    chunked = found.headers.get("transfer-encoding") == "chunked"
    last = began
    while part := await (_chunk(reader) if chunked else reader.read(_READ_BYTES)):
        now = time.monotonic()
        if found.first is None:
            found.first = now - began
        else:
            found.gaps.append(now - last)
        last = now
        found.body += part


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    try:
        length = int(await reader.readuntil(b"\r\n"), 16)
        return (await reader.readexactly(length + 2))[:-2]
    except asyncio.IncompleteReadError:
        return b""
