"""What surrounds every route: the access line, and the last net under unforeseen failures."""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mooring.http.errors import unexpected_problem
from mooring.http.identification import record_of
from mooring.observe.logs import log_request
from mooring.protocol.openai.answers import STREAM_END, event_line

logger = logging.getLogger(__name__)


class AccessLog:
    """Logs one line per request once it is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        try:
            await self._app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                log_request(record_of(scope))


class UnexpectedErrors:
    """Turns a failure nobody foresaw into a plain 500, or into the last event of a stream."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        started = False

        async def send_noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception:
            if scope["type"] != "http":
                raise
            request_id = record_of(scope).request_id
            logger.exception("Request %s failed unexpectedly.", request_id)
            problem = unexpected_problem(request_id)
            if started:
                body = event_line(problem.openai_body()) + STREAM_END
                await send({"type": "http.response.body", "body": body, "more_body": False})
            else:
                await problem.response(scope["path"])(scope, receive, send)
