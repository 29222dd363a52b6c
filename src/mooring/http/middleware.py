"""What surrounds every route: observers hear of each request, and no failure goes unanswered."""

import logging
import time
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mooring.http.errors import refusal, unexpected_problem
from mooring.http.identification import record_of
from mooring.observe.record import RequestObserver
from mooring.protocol.openai.answers import STREAM_END, event_line

logger = logging.getLogger(__name__)


class Told:
    """Tells the observers of every request once it is answered.

    `paths` are those of routes: what is refused before a route is found is told under them too.
    """

    def __init__(self, app: ASGIApp, observer: RequestObserver, paths: Collection[str]) -> None:
        self._app = app
        self._observer = observer
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        try:
            await self._app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                self._tell(scope)

    def _tell(self, scope: Scope) -> None:
        record = record_of(scope)
        route = scope["route"].path if "route" in scope else scope["path"]
        record.route = route if route in self._paths else ""
        record.ended = time.monotonic()
        self._observer.answered(record)


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
                record_of(scope).error = problem.code
                body = event_line(problem.openai_body()) + STREAM_END
                await send({"type": "http.response.body", "body": body, "more_body": False})
            else:
                await refusal(scope, problem)(scope, receive, send)
