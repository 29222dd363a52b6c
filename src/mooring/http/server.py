"""The server's life: bind, load, serve, drain, end."""

import asyncio
import errno
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn

from mooring.errors import InvalidInput, MooringError
from mooring.http.app import create_app, metrics_of
from mooring.http.connection import BoundedConnection
from mooring.http.identification import header_of
from mooring.observe.logs import configure_logging
from mooring.observe.loop_lag import watch_lag
from mooring.observe.observers import Observers
from mooring.service.host import ModelHost
from mooring.service.text_service import TextService
from mooring.settings import ServerSettings

# After the drain, how long open answers have to send their last event.
_CLOSING_SECONDS = 3
_POLL_SECONDS = 0.02

Load = Callable[[], TextService]
Announce = Callable[[str], None]


def run_server(
    host: ModelHost,
    settings: ServerSettings,
    *,
    load: Load,
    announce: Announce,
    observers: Observers | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT and return the exit code, 0.

    `announce` gets the base URL twice: when the port is open, and when `host` is ready. `observers`
    hear of every request; metrics of the server's own if none are given. Raises a
    `MooringError` if the port cannot be had, whatever `load` raises, and the failure of `host`.
    """
    configure_logging()
    check_certificate(settings)
    server = ModelServer(host, settings, observers)
    with bind(settings.host, settings.port) as listener:
        asyncio.run(server.live(listener, load, announce))
    if host.failure is not None:
        raise host.failure
    return 0


def check_certificate(settings: ServerSettings) -> None:
    """Raise `InvalidInput` unless certificate and key are both absent, or usable together."""
    if settings.tls_cert is None and settings.tls_key is None:
        return
    if settings.tls_cert is None or settings.tls_key is None:
        raise InvalidInput("TLS needs both a certificate and its key. Given: one of them.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_cert, settings.tls_key, password=_no_password
        )
    except (OSError, ValueError) as error:  # ssl's own errors are among the OSErrors
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise InvalidInput(
            "The TLS certificate and key cannot be used: both must be PEM files that belong "
            f"together, the key without a password. {reason}."
        ) from None


def _no_password() -> str:
    raise ValueError("The key has a password")


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket; raise a `MooringError` that says why it cannot be had."""
    where = f"port {port} of {host}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        raise MooringError(f"`host` must be an address of this machine. Given: {host}.") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise MooringError(_why_not(error, where)) from None
    return listener


class ModelServer(uvicorn.Server):
    """A uvicorn server that loads its model while it answers, and drains before it ends.

    It ends by a signal, and when the engine of its model has failed for good.

    While draining it still listens, so that probes and new requests learn that it ends. The first
    signal begins the drain; a second one ends the process at once.
    """

    def __init__(
        self, host: ModelHost, settings: ServerSettings, observers: Observers | None = None
    ) -> None:
        observers = observers or Observers(metrics_of(host))
        label = header_of(host.identity.label)
        connection = partial(BoundedConnection, limits=settings.server, label=label)
        super().__init__(
            uvicorn.Config(
                create_app(host, settings, observers),
                http=cast(Any, connection),
                h11_max_incomplete_event_size=settings.server.max_header_bytes,
                ssl_certfile=settings.tls_cert,
                ssl_keyfile=settings.tls_key,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_CLOSING_SECONDS,
            )
        )
        self._metrics = observers.metrics
        self._host = host
        self._limits = settings.server
        self._scheme = "https" if settings.tls_cert else "http"
        self._stop = asyncio.Event()
        self._signalled = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def live(self, listener: socket.socket, load: Load, announce: Announce) -> None:
        """Serve on `listener` until stopped."""
        self._loop = asyncio.get_running_loop()
        self._host.when_failed(self.stop)
        lag = asyncio.create_task(watch_lag(self._metrics.loop_lagged))
        serving = asyncio.create_task(self.serve(sockets=[listener]))
        try:
            while not self.started and not serving.done():
                await asyncio.sleep(_POLL_SECONDS)
            url = _base_url(self._scheme, listener)
            announce(url)
            if await self._load(load):
                announce(url)
                await self._stop.wait()
                self._host.leave()
                await self._delay()
            self._host.drain()
            await self._finish_running()
        finally:
            self.should_exit = True
            await serving
            lag.cancel()

    def stop(self) -> None:
        """Begin to drain; may be called from any thread, and again after the end."""
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has closed: the end is behind us
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _load(self, load: Load) -> bool:
        """Load in a thread; return whether the model is ready before the server is stopped."""
        loading = asyncio.wrap_future(_in_daemon_thread(load))
        stopping = asyncio.create_task(self._stop.wait())
        either: set[asyncio.Future[Any]] = {loading, stopping}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            return False
        self._host.ready(loading.result())
        return True

    async def _delay(self) -> None:
        """Give balancers time to learn that the server leaves, unless its engine is gone."""
        if self._host.failure is None:
            await asyncio.sleep(self._limits.drain_delay)

    async def _finish_running(self) -> None:
        """Wait for running requests up to the drain time, fail the rest, cut who does not read."""
        await _until(lambda: not self.server_state.tasks, self._limits.drain_seconds)
        self._host.abort()
        await _until(lambda: not self._busy, _CLOSING_SECONDS)
        for connection in self._busy:
            connection.abort()

    @property
    def _busy(self) -> list[BoundedConnection]:
        connections = cast(set[BoundedConnection], self.server_state.connections)
        return [connection for connection in connections if connection.busy]

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while serving, where Python allows it: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at the first signal, end at once at the second."""
        if self._signalled:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self._signalled = True
        self.stop()


async def _until(done: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so, but no longer than `seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not done() and loop.time() < deadline:
        await asyncio.sleep(_POLL_SECONDS)


def _in_daemon_thread(load: Load) -> Future[TextService]:
    """Run `load` in a thread that does not keep the process alive."""
    future: Future[TextService] = Future()

    def run() -> None:
        try:
            service = load()
        except BaseException as error:  # noqa: BLE001 - raised again where the future is read
            future.set_exception(error)
        else:
            future.set_result(service)

    threading.Thread(target=run, name="load", daemon=True).start()
    return future


def _base_url(scheme: str, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _why_not(error: OSError, where: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where} is in use. Stop what uses it, or choose another port."
        case errno.EACCES:
            return f"{where} needs more rights. Choose a port above 1023."
        case errno.EADDRNOTAVAIL:
            return f"{where} is not an address of this machine. Use 127.0.0.1 or 0.0.0.0."
        case _:
            return f"{where} cannot be opened: {error.strerror}."
