"""One connection, bounded: how many there are, how slowly a head may come or an answer be read."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from mooring.http.chunks import ChunkBound
from mooring.protocol.invocations import invocation_error
from mooring.protocol.openai.answers import error_body
from mooring.settings import ServerLimits

ABORT = "abort"
"""The name in a request's `state` of the call that ends its connection at once."""


def _answer(status: str, message: str, kinds: tuple[str, str, str], *headers: str) -> bytes:
    """Write a whole answer to who asks for nothing yet, so in both protocols at once."""
    openai_type, code, mlflow_code = kinds
    error = error_body(message, openai_type, param=None, code=code)
    body = json.dumps(error | invocation_error(message, mlflow_code))
    head = "\r\n".join(
        (
            f"HTTP/1.1 {status}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
            f"x-request-id: {uuid4().hex}",
            *headers,
        )
    )
    return f"{head}\r\n\r\n{body}".encode()


def _full(label: str) -> bytes:
    return _answer(
        "503 Service Unavailable",
        "The server has as many connections as it may. Try again in 2 s.",
        ("server_error", "server_busy", "TEMPORARILY_UNAVAILABLE"),
        "retry-after: 2",
        f"x-mooring-model: {label}",
    )


def _not_http(label: str) -> bytes:
    return _answer(
        "400 Bad Request",
        "This is not HTTP as the server reads it: request line and headers must be well formed and "
        "within the limit of their size, and a body in no more chunks than one for each 64 bytes.",
        ("invalid_request_error", "invalid_http", "BAD_REQUEST"),
        f"x-mooring-model: {label}",
    )


class BoundedConnection(H11Protocol):
    """uvicorn's connection, with the limits that it does not have.

    `label` names the model, also where no request was read.
    """

    def __init__(
        self, *, limits: ServerLimits, label: str, app_state: dict[str, Any], **rest: Any
    ) -> None:
        super().__init__(app_state={**app_state, ABORT: self.abort}, **rest)
        self._limits = limits
        self._label = label
        self.conn = ChunkBound(limits.max_header_bytes)
        self._head_timer = _Timer()
        self._reader_timer = _Timer()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            transport.write(_full(self._label))
            transport.close()
            return
        self._time_the_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless the connection was refused."""
        if not self.transport.is_closing():
            super().data_received(data)
            self._time_the_head()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP in the words of every other answer."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(_not_http(self._label))
        self.transport.close()

    def pause_writing(self) -> None:
        """Begin to watch a reader that does not keep up."""
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Go on with a reader that has caught up."""
        super().resume_writing()
        self._reader_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind."""
        self._head_timer.cancel()
        self._reader_timer.cancel()
        super().connection_lost(exc)

    @property
    def busy(self) -> bool:
        """Whether an answer is not over, or not read yet."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return answering or self.transport.get_write_buffer_size() > 0

    def abort(self) -> None:
        """End the connection at once, whatever is not read yet."""
        self.transport.abort()

    def _time_the_head(self) -> None:
        """Let the time run while the head of a request is not whole."""
        if self.conn.their_state is not h11.IDLE:
            self._head_timer.cancel()
        elif not self._head_timer.running:
            seconds = self._limits.header_seconds
            self._head_timer.start(self.loop.call_later(seconds, self.abort))

    def _watch_reader(self, left: int) -> None:
        seconds = self._limits.stalled_seconds
        self._reader_timer.start(self.loop.call_later(seconds, self._judge_reader, left))

    def _judge_reader(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left >= before:
            self.abort()
        else:
            self._watch_reader(left)


class _Timer:
    """One call that may be due, at most."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        return self._handle is not None

    def start(self, handle: asyncio.TimerHandle) -> None:
        self.cancel()
        self._handle = handle

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
