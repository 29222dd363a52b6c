"""The routes for machines that watch: alive, ready, version, metrics, and the server's document."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mooring import __version__
from mooring.http.errors import RETRY_SECONDS
from mooring.observe.metrics import CONTENT_TYPE, Metrics
from mooring.service.host import ModelHost


class ProbeRoutes:
    """Says how the server is, without touching the engine."""

    def __init__(self, host: ModelHost, metrics: Metrics) -> None:
        self._host = host
        self._metrics = metrics
        self.document: dict[str, Any] = {}

    async def health(self, request: Request) -> Response:
        """Answer `GET /health`: 200 while the event loop answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Answer `GET /ready` and `GET /ping`: 200 only when requests are taken."""
        state = self._host.state
        if state == "ready":
            return JSONResponse({"status": state})
        return JSONResponse({"status": state}, 503, {"retry-after": str(RETRY_SECONDS)})

    async def metrics(self, request: Request) -> Response:
        """Answer `GET /metrics` in Prometheus' text format, while the model loads too."""
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def openapi(self, request: Request) -> Response:
        """Answer `GET /openapi.json` with the document of all routes."""
        return JSONResponse(self.document)

    async def version(self, request: Request) -> Response:
        """Answer `GET /version`."""
        return JSONResponse({"version": __version__})
