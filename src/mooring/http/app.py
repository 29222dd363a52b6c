"""The application: its routes and what surrounds them, as two lists."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from mooring.errors import MooringError
from mooring.http.errors import note_disconnect, report_error, report_http_error
from mooring.http.identification import Identification
from mooring.http.middleware import AccessLog, UnexpectedErrors
from mooring.http.openai import OpenAIRoutes
from mooring.http.probes import ProbeRoutes
from mooring.http.scoring import ScoringRoutes
from mooring.service.host import ModelHost
from mooring.settings import ServerSettings


def create_app(host: ModelHost, settings: ServerSettings) -> Starlette:
    """Return the ASGI application that serves `host`."""
    openai = OpenAIRoutes(host, settings)
    scoring = ScoringRoutes(host, settings)
    probes = ProbeRoutes(host)
    routes = [
        Route("/v1/models", openai.models, methods=["GET"]),
        Route("/v1/models/{id:path}", openai.model, methods=["GET"]),
        Route("/v1/chat/completions", openai.chat_completions, methods=["POST"]),
        Route("/v1/completions", openai.completions, methods=["POST"]),
        Route("/invocations", scoring.invocations, methods=["POST"]),
        Route("/ping", probes.ready, methods=["GET"]),
        Route("/health", probes.health, methods=["GET"]),
        Route("/ready", probes.ready, methods=["GET"]),
        Route("/version", probes.version, methods=["GET"]),
    ]
    middleware = [
        Middleware(Identification, label=host.identity.label),
        Middleware(AccessLog),
        Middleware(UnexpectedErrors),
    ]
    app = Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={
            MooringError: report_error,
            HTTPException: report_http_error,
            ClientDisconnect: note_disconnect,
        },
    )
    app.router.redirect_slashes = False
    return app
