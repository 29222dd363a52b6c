"""Every request gets an id and a record; every answer says the id and which model answered."""

import re
from urllib.parse import quote
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mooring.observe.content import Content
from mooring.observe.record import Meters, RequestRecord

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RECORD = "mooring.record"
_TRACE_HEADERS = ("traceparent", "tracestate")


def record_of(scope: Scope) -> RequestRecord:
    """Return the record of the request that `scope` belongs to."""
    record: RequestRecord = scope[_RECORD]
    return record


def header_of(label: str) -> str:
    """Return a model's label as it stands in the header `x-mooring-model`."""
    return quote(label, safe="/@:._- +")


class Identification:
    """Adds `x-request-id`, `x-mooring-model` and `nosniff` to answers, the record to the scope."""

    def __init__(
        self, app: ASGIApp, label: str, meters: Meters, *, keeps_content: bool = False
    ) -> None:
        self._app = app
        self._meters = meters
        self._keeps_content = keeps_content
        self._label = header_of(label)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        record = RequestRecord(
            request_id=_request_id(headers),
            method=scope["method"],
            path=scope["path"],
            model=self._label,
            trace_headers={name: headers[name] for name in _TRACE_HEADERS if name in headers},
            content=Content() if self._keeps_content else None,
            meters=self._meters,
        )
        scope[_RECORD] = record

        async def send_identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = record.request_id
                headers["x-mooring-model"] = record.model
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, send_identified)


def _request_id(headers: Headers) -> str:
    given = headers.getlist("x-request-id")
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return uuid4().hex
