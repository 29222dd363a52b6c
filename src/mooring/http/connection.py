"""One connection, bounded: how many there are, how slowly a head may come or an answer be read."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from mooring.settings import ServerLimits

ABORT = "abort"
"""The name in a request's `state` of the call that ends its connection at once."""

_BODY = (
    b'{"error":{"message":"The server has as many connections as it may. Try again in 2 s.",'
    b'"type":"server_error","param":null,"code":"server_busy"}}'
)
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 2\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


class BoundedConnection(H11Protocol):
    """uvicorn's connection, with the limits that it does not have."""

    def __init__(self, *, limits: ServerLimits, app_state: dict[str, Any], **rest: Any) -> None:
        super().__init__(app_state={**app_state, ABORT: self._abort}, **rest)
        self._limits = limits
        self._head_timer = _Timer()
        self._reader_timer = _Timer()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            transport.write(_FULL)
            transport.close()
            return
        self._time_the_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless the connection was refused."""
        if not self.transport.is_closing():
            super().data_received(data)
            self._time_the_head()

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

    def _abort(self) -> None:
        self.transport.abort()

    def _time_the_head(self) -> None:
        """Let the time run while the head of a request is not whole."""
        if self.conn.their_state is not h11.IDLE:
            self._head_timer.cancel()
        elif not self._head_timer.running:
            seconds = self._limits.header_seconds
            self._head_timer.start(self.loop.call_later(seconds, self._abort))

    def _watch_reader(self, left: int) -> None:
        seconds = self._limits.stalled_seconds
        self._reader_timer.start(self.loop.call_later(seconds, self._judge_reader, left))

    def _judge_reader(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left >= before:
            self._abort()
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
