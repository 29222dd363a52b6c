"""Who gets in: hosts and origins first, then keys. What is not named open is guarded."""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mooring.errors import Forbidden, InvalidInput, MooringError, Refused
from mooring.http.errors import problem_of, refusal
from mooring.http.identification import record_of
from mooring.protocol.values import shown
from mooring.service.callers import Caller
from mooring.service.keys import KeyRing
from mooring.settings import AccessSettings

OPEN = frozenset({"/health", "/ready", "/ping"})
"""For machines that watch and know neither keys nor names; nothing but a state is told there."""

METRICS = "/metrics"
"""For machines too, but it names who uses the server: only keys that may, unless it is opened."""

ANY_ORIGIN = "*"

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
_CALLER = "mooring.caller"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")


def open_paths(access: AccessSettings) -> frozenset[str]:
    """Return what needs no key."""
    return OPEN | {METRICS} if access.open_metrics else OPEN


def checked_origin(origin: str) -> str:
    """Return an origin as browsers write it, or `*` for all; raise `InvalidInput` for others."""
    if origin != ANY_ORIGIN and _ORIGIN.fullmatch(origin) is None:
        raise InvalidInput(
            "`cors_origins` must be written as browsers do: scheme, host and port if it is not "
            f"the usual one, in lower case and without a path, or `*`. Given: {shown(origin)}. "
            "Example: https://app.example."
        )
    return origin


def caller_of(scope: Scope) -> Caller:
    """Return who makes the request that `scope` belongs to."""
    caller: Caller = scope[_CALLER]
    return caller


class HostCheck:
    """Refuses names that are not the server's, and pages of other sites that would change things.

    `hosts` are the names to answer to, None for all; `origins` the sites let in beside the own.
    """

    def __init__(
        self, app: ASGIApp, hosts: Collection[str] | None, origins: Collection[str]
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        if scope["type"] == "http" and scope["path"] not in OPEN:
            try:
                self._check(scope["method"], Headers(scope=scope))
            except MooringError as error:
                await refusal(scope, problem_of(error))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, method: str, headers: Headers) -> None:
        host = headers.get("host", "")
        matched = _HOST.fullmatch(host)
        if host and matched is None:
            raise InvalidInput("The header `Host` must be a name or an address, and a port.")
        name = matched["name"].strip("[]").lower() if matched else ""
        if self._hosts is not None and name not in self._hosts:
            raise Forbidden(
                "This server does not answer to that `Host`. Start it with --allowed-host, or ask "
                "it by a name that it has."
            )
        if method not in _SAFE and ANY_ORIGIN not in self._origins:
            for origin in headers.getlist("origin"):
                if origin not in self._origins and urlsplit(origin).netloc != host:
                    raise Forbidden(
                        "Pages of that `Origin` may not use this server. Start it with "
                        "--cors-origin to let them in."
                    )


class KeyCheck:
    """Refuses who shows no key, or a wrong one, on every path that is not open."""

    def __init__(self, app: ASGIApp, keys: KeyRing, open_paths: Collection[str] = OPEN) -> None:
        self._app = app
        self._keys = keys
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request, and hold it in its caller's count until it is answered."""
        if scope["type"] != "http" or scope["path"] in self._open_paths:
            await self._app(scope, receive, send)
            return
        try:
            caller = self._keys.find(shown_key(scope))
            record_of(scope).key = caller.name
            if scope["path"] == METRICS:
                caller.check_metrics()
            caller.enter()
        except Refused as error:
            await refusal(scope, problem_of(error))(scope, receive, send)
            return
        scope[_CALLER] = caller
        try:
            await self._app(scope, receive, send)
        finally:
            caller.leave()


def shown_key(scope: Scope) -> bytes | None:
    """Return the key that a request shows, as `Authorization: Bearer` or as `x-api-key`."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    scheme, _, key = headers.get(b"authorization", b"").strip().partition(b" ")
    if scheme.lower() == b"bearer":
        return key.strip()
    return headers.get(b"x-api-key")
