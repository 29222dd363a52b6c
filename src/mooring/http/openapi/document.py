"""The OpenAPI document of a server, made of its routes."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.routing import Route

from mooring import __version__
from mooring.http.access import OPEN, open_paths
from mooring.http.openapi.fields import Schema
from mooring.http.openapi.operations import JSON, OPERATIONS, Operation
from mooring.settings import ServerSettings

_MEANINGS = {
    400: "The request breaks a rule.",
    401: "No key, or one that is not known.",
    403: "A host, an origin or a model that this caller may not have.",
    404: "No such model.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body has another type than the route takes.",
    429: "A limit of the caller's own key is reached.",
    500: "The server failed.",
    503: "Nothing is taken now: loading, full or ending.",
    504: "The answer did not come in time.",
}
_RETRY: Schema = {"retry-after": {"schema": {"type": "string"}, "description": "Seconds."}}


def openapi_document(
    routes: Iterable[Route], settings: ServerSettings, names: Sequence[str]
) -> dict[str, Any]:
    """Return the document, OpenAPI 3.1; `names` are what clients may call the model.

    Raises `KeyError` for a route that is not described.
    """
    schemas: dict[str, Schema] = {}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = re.sub(r":\w+}", "}", route.path)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            operation = OPERATIONS[method, path]
            described = _operation(operation, path, settings)
            if operation.body is not None:
                body = operation.body(settings.limits)
                schemas.update(body.pop("$defs", {}))
                described["requestBody"] = _body(operation, body, names)
            paths.setdefault(path, {})[method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "Mooring", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _operation(operation: Operation, path: str, settings: ServerSettings) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {"200": {"description": "The answer.", "content": _content(operation)}},
    }
    for status in _statuses(operation, path, settings):
        described["responses"][str(status)] = _failure(operation, status)
    if "{id}" in path:
        described["parameters"] = [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    if _guarded(path, settings):
        described["security"] = [{"bearer": []}, {"key": []}]
    return described


def _body(operation: Operation, body: Schema, names: Sequence[str]) -> dict[str, Any]:
    if "model" in body.get("properties", {}):
        body["properties"]["model"] = {"enum": list(names)}
    content: dict[str, Any] = {JSON: {"schema": body}}
    content |= {kind: {} for kind in operation.other_bodies}
    return {"required": True, "content": content}


def _content(operation: Operation) -> dict[str, Any]:
    return {kind: {"schema": schema} for kind, schema in operation.answers.items()}


def _statuses(operation: Operation, path: str, settings: ServerSettings) -> list[int]:
    """Return the statuses of failures: some may meet any request that is not for an open path."""
    if path in OPEN:
        return sorted(operation.errors)
    guard = {401} if _guarded(path, settings) else set()
    return sorted({400, 403, *operation.errors, *guard})


def _failure(operation: Operation, status: int) -> dict[str, Any]:
    failure: dict[str, Any] = {
        "description": _MEANINGS[status],
        "content": {JSON: {"schema": operation.error}},
    }
    if status in (429, 503):
        failure["headers"] = _RETRY
    return failure


def _guarded(path: str, settings: ServerSettings) -> bool:
    access = settings.access
    return bool(access.keys or access.keys_file) and path not in open_paths(access)
