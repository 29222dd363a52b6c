"""The child process: runs one engine, obeys the pipe, and ends when its parent does."""

import faulthandler
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator

from mooring.engines.contract import Emit, Engine
from mooring.engines.description import make_engine
from mooring.engines.process.ending import end_with, guard_group
from mooring.engines.process.messages import (
    COMMANDS,
    Cancel,
    Close,
    Command,
    Events,
    Frames,
    Heartbeat,
    Logged,
    Open,
    Opened,
    Refused,
    Report,
    Submit,
    frame,
    pack,
    trouble_of,
)
from mooring.errors import EngineError, MooringError
from mooring.generation import Event, Failed, GenerationRequest

logger = logging.getLogger(__name__)

_READ_BYTES = 65_536

Outgoing = Report | tuple[str, Event] | None


class Reporter:
    """Sends reports from a thread of its own: events that wait together go as one message."""

    def __init__(self, pipe: socket.socket, engine: Engine, heartbeat_seconds: float) -> None:
        self._pipe = pipe
        self._engine = engine
        self._heartbeat_seconds = heartbeat_seconds
        self._outgoing: queue.SimpleQueue[Outgoing] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._report, name="reporter", daemon=True)
        self._thread.start()

    def send(self, report: Report) -> None:
        """Send a report after those before it."""
        self._outgoing.put(report)

    def emitter(self, request_id: str) -> Emit:
        """Return what sends the events of a request."""
        return lambda event: self._outgoing.put((request_id, event))

    def close(self) -> None:
        """Send what waits, then stop."""
        self._outgoing.put(None)
        self._thread.join()

    def _report(self) -> None:
        next_heartbeat = time.monotonic()
        while True:
            waiting = self._take(next_heartbeat - time.monotonic())
            events = [(item[0], pack(item[1])) for item in waiting if isinstance(item, tuple)]
            reports = [item for item in waiting if item and not isinstance(item, tuple)]
            if events:
                reports.append(Events(self._engine.load(), events))
            if time.monotonic() >= next_heartbeat:
                next_heartbeat = time.monotonic() + self._heartbeat_seconds
                reports.append(Heartbeat(self._engine.load()))
            _write(self._pipe, b"".join(map(frame, reports)))
            if None in waiting:
                return

    def _take(self, seconds: float) -> list[Outgoing]:
        """Wait up to `seconds` for something to send, and return all there is."""
        items: list[Outgoing] = []
        try:
            items.append(self._outgoing.get(timeout=max(0.0, seconds)))
            while True:
                items.append(self._outgoing.get_nowait())
        except queue.Empty:
            return items


class ForwardedLog(logging.Handler):
    """Sends log records to the parent, which writes them into its own log."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter())
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record, its traceback within the text."""
        self._reporter.send(Logged(record.name, record.levelno, self.format(record)))


def live(pipe: socket.socket) -> None:
    """Run the engine that the first message describes, until told to close."""
    commands = _commands(pipe)
    opening = next(commands)
    assert isinstance(opening, Open)
    try:
        engine = make_engine(opening.description)
    except MooringError as error:
        _write(pipe, frame(Refused(trouble_of(error))))
        return
    reporter = Reporter(pipe, engine, opening.heartbeat_seconds)
    logging.basicConfig(handlers=[ForwardedLog(reporter)])
    logging.getLogger("mooring").setLevel(logging.INFO)
    closing = threading.Event()
    threading.Thread(
        target=_obey, args=(commands, engine, reporter, closing), name="commands", daemon=True
    ).start()
    try:
        reporter.send(Opened(engine.start()))
        closing.wait()
    except MooringError as error:
        reporter.send(Refused(trouble_of(error)))
    except Exception as error:  # the parent has to hear of it, whatever it is
        logger.exception("The engine could not start.")
        reporter.send(Refused(trouble_of(EngineError(f"The engine could not start: {error!r}"))))
    engine.close()
    reporter.close()


def _commands(pipe: socket.socket) -> Iterator[Command]:
    """Yield what the parent says; end this process when it says no more."""
    frames = Frames(COMMANDS)
    while data := _read(pipe):
        yield from frames.feed(data)
    os._exit(1)


def _read(pipe: socket.socket) -> bytes:
    try:
        return pipe.recv(_READ_BYTES)
    except ConnectionError:
        return b""


def _write(pipe: socket.socket, data: bytes) -> None:
    try:
        pipe.sendall(data)
    except ConnectionError:
        os._exit(1)


def _obey(
    commands: Iterator[Command], engine: Engine, reporter: Reporter, closing: threading.Event
) -> None:
    for command in commands:
        match command:
            case Submit(request):
                _submit(engine, request, reporter.emitter(request.id))
            case Cancel(request_id):
                engine.cancel(request_id)
            case Close():
                closing.set()


def _submit(engine: Engine, request: GenerationRequest, emit: Emit) -> None:
    try:
        engine.submit(request, emit)
    except EngineError as error:
        emit(Failed(error))
    except MooringError as error:
        emit(Failed(EngineError(error.message)))


def _end_with_any_thread(failure: threading.ExceptHookArgs) -> None:
    """End this process when one of its threads fails: half of it would only seem to work."""
    error = (failure.exc_type, failure.exc_value, failure.exc_traceback)
    sys.stderr.write("".join(traceback.format_exception(*error)))
    sys.stderr.flush()
    os._exit(1)


def main() -> None:
    """Live at the end of the pipe whose descriptor, and the parent's id, are the arguments."""
    descriptor, parent = map(int, sys.argv[1:])
    end_with(parent)
    guard_group()
    threading.excepthook = _end_with_any_thread
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    os.set_inheritable(descriptor, False)
    live(socket.socket(fileno=descriptor))


if __name__ == "__main__":
    main()
