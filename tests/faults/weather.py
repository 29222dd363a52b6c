"""A proxy before a real server that does what networks and servers do on bad days."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Weather = Literal["fair", "refuse", "lose the answer", "hang"] | int
"""What happens to a request: it passes, its connection is closed before or after the server has
done it, nothing at all happens, or it gets this status from the proxy itself.
"""

Forecast = Callable[[str, str], Weather]
"""Says what happens to a request, by method and path."""

HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


class Proxy(ThreadingHTTPServer):
    """Passes requests on to `upstream`, a port of this machine, as `forecast` says."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.forecast: Forecast = always_fair
        self.seen: list[tuple[str, str]] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        """The address to ask instead of the server's."""
        return f"http://127.0.0.1:{self.server_address[1]}"


def always_fair(method: str, path: str) -> Weather:
    """Let everything pass."""
    return "fair"


@contextmanager
def proxy_before(port: int) -> Iterator[Proxy]:
    """Run a proxy before the server at `port`."""
    proxy = Proxy(port)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        proxy.shutdown()
        thread.join()
        proxy.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        self.close_connection = True
        path = self.path.partition("?")[0]
        self.server.seen.append((self.command, path))
        weather = self.server.forecast(self.command, path)
        if weather == "hang":
            self.server.ended.wait()
            return
        with suppress(ConnectionError):  # the client may be gone by now
            body = self._body()
            if isinstance(weather, int):
                self._answer(weather, [], b"so the proxy says")
            elif weather != "refuse":
                answer = self._ask(body)
                if weather == "fair":
                    self._answer(*answer)

    def _body(self) -> bytes:
        if "transfer-encoding" not in self.headers:
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        try:
            headers = {n: v for n, v in self.headers.items() if n.lower() not in HOP_BY_HOP}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {*HOP_BY_HOP, "content-length"}:
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Write no log."""

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on
