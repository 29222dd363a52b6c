"""The parent's end of the pipe to a child: any thread sends, one thread receives."""

import selectors
import socket
import threading
from contextlib import suppress

from mooring.engines.process.messages import REPORTS, Command, Frames, Report, frame

_READ_BYTES = 1_048_576


class Pipe:
    """A socket to a child. `send` never blocks; `receive` also writes what has been sent."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.setblocking(False)
        self._awaken, self._awakened = socket.socketpair()
        self._awaken.setblocking(False)
        self._awakened.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(self._awakened, selectors.EVENT_READ)
        self._frames = Frames(REPORTS)
        self._outgoing = bytearray()
        self._lock = threading.Lock()
        self._closed = False

    def send(self, command: Command) -> None:
        """Queue a command; it is dropped if the pipe is closed."""
        with self._lock:
            if not self._closed:
                self._outgoing += frame(command)
                with suppress(BlockingIOError):
                    self._awaken.send(b"\0")

    def receive(self, seconds: float) -> list[Report]:
        """Wait up to `seconds` for reports; raise `EOFError` once the child's end is closed."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0)
        self._selector.modify(self._socket, wanted)
        data = b""
        for key, mask in self._selector.select(seconds):
            if key.fileobj is self._awakened:
                self._awakened.recv(4096)
            elif mask & selectors.EVENT_READ:
                data = self._read()
        self._write()
        return list(self._frames.feed(data))

    def close(self) -> None:
        """Close this end; what was not written yet is dropped."""
        with self._lock:
            self._closed = True
            self._selector.close()
            for sock in (self._socket, self._awaken, self._awakened):
                sock.close()

    def _read(self) -> bytes:
        try:
            data = self._socket.recv(_READ_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError
        return data

    def _write(self) -> None:
        with self._lock, suppress(BlockingIOError, ConnectionError):
            while self._outgoing:
                sent = self._socket.send(self._outgoing)
                del self._outgoing[:sent]
