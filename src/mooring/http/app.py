"""The application: its routes and what surrounds them, as two lists."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from mooring import __version__
from mooring.errors import MooringError
from mooring.http.access import METRICS, HostCheck, KeyCheck, checked_origin, open_paths
from mooring.http.decisions import DecisionRoutes
from mooring.http.errors import note_disconnect, report_error, report_http_error
from mooring.http.identification import Identification
from mooring.http.middleware import Told, UnexpectedErrors
from mooring.http.openai import OpenAIRoutes
from mooring.http.openapi import openapi_document
from mooring.http.probes import ProbeRoutes
from mooring.http.scoring import ScoringRoutes
from mooring.http.tokens import TokenRoutes
from mooring.observe.levels import Served
from mooring.observe.metrics import Metrics
from mooring.observe.observers import Observers
from mooring.service.host import ModelHost
from mooring.service.keys import KeyRing
from mooring.settings import LOOPBACK_NAMES, ServerSettings

_SHOWN_TO_PAGES = ("x-request-id", "x-mooring-model", "retry-after")


def metrics_of(host: ModelHost) -> Metrics:
    """Return new metrics of a server that serves `host`."""
    identity = host.identity
    return Metrics(Served(identity.name, identity.version, __version__), lambda: host.levels)


def create_app(
    host: ModelHost, settings: ServerSettings, observers: Observers | None = None
) -> Starlette:
    """Return the ASGI application that serves `host`; raise `InvalidInput` for unusable keys.

    `observers` hear of every request; metrics of its own if none are given.
    """
    observers = observers or Observers(metrics_of(host))
    openai = OpenAIRoutes(host, settings)
    decisions, tokens = DecisionRoutes(host, settings), TokenRoutes(host, settings)
    scoring = ScoringRoutes(host, settings)
    probes = ProbeRoutes(host, observers.metrics)
    routes = [
        Route("/v1/models", openai.models, methods=["GET"]),
        Route("/v1/models/{id:path}", openai.model, methods=["GET"]),
        Route("/v1/chat/completions", openai.chat_completions, methods=["POST"]),
        Route("/v1/chat/completions/render", openai.render_chat, methods=["POST"]),
        Route("/v1/completions", openai.completions, methods=["POST"]),
        Route("/v1/responses", openai.responses, methods=["POST"]),
        Route("/v1/decisions", decisions.decisions, methods=["POST"]),
        Route("/tokenize", tokens.tokenize, methods=["POST"]),
        Route("/detokenize", tokens.detokenize, methods=["POST"]),
        Route("/invocations", scoring.invocations, methods=["POST"]),
        Route("/ping", probes.ready, methods=["GET"]),
        Route("/health", probes.health, methods=["GET"]),
        Route("/ready", probes.ready, methods=["GET"]),
        Route("/version", probes.version, methods=["GET"]),
        Route(METRICS, probes.metrics, methods=["GET"]),
        Route("/openapi.json", probes.openapi, methods=["GET"]),
    ]
    probes.document = openapi_document(routes, settings, host.identity.served_names)
    middleware = [
        Middleware(
            Identification,
            label=host.identity.label,
            meters=observers.metrics,
            keeps_content=observers.keeps_content,
        ),
        Middleware(Told, observer=observers, paths=frozenset(route.path for route in routes)),
        Middleware(UnexpectedErrors),
        *_access(settings),
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


def _access(settings: ServerSettings) -> list[Middleware]:
    """Return what decides who gets in, in order."""
    access = settings.access
    origins = tuple(checked_origin(origin) for origin in access.cors_origins)
    cross_origin = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        # OpenAI's client adds headers of its own, more of them with each version.
        allow_headers=("*",),
        expose_headers=_SHOWN_TO_PAGES,
    )
    file = Path(access.keys_file) if access.keys_file else None
    return [
        Middleware(HostCheck, hosts=_hosts(settings), origins=origins),
        *([cross_origin] if origins else []),
        Middleware(KeyCheck, keys=KeyRing(access.keys, file), open_paths=open_paths(access)),
    ]


def _hosts(settings: ServerSettings) -> frozenset[str] | None:
    """Return the names to answer to: on loopback its own, elsewhere all unless some are given."""
    given = frozenset(name.strip("[]").lower() for name in settings.access.allowed_hosts)
    if settings.on_loopback:
        return given | LOOPBACK_NAMES
    return given or None
