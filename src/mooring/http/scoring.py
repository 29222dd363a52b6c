"""The MLflow route: `/invocations`, as MLflow's own scoring server answers it."""

from itertools import chain

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mooring.http import bodies
from mooring.http.access import caller_of
from mooring.http.answering import begin, complete
from mooring.http.bodies import read_body
from mooring.http.disconnect import unless_client_leaves
from mooring.http.identification import record_of
from mooring.http.parquet import ParquetReader
from mooring.http.streaming import EventStream, StreamPlan
from mooring.protocol.invocations import (
    InvocationCall,
    InvocationFormat,
    parse_csv,
    parse_invocation,
    parse_table,
)
from mooring.protocol.openai.answers import AnswerHead
from mooring.service.host import ModelHost
from mooring.settings import ServerSettings

_TYPES = (bodies.JSON, bodies.CSV, bodies.PARQUET)


class ScoringRoutes:
    """Answers MLflow's clients with one model."""

    def __init__(self, host: ModelHost, settings: ServerSettings) -> None:
        self._host = host
        self._settings = settings
        self._parquet = ParquetReader(settings.limits.max_rows, settings.server.max_body_bytes)

    async def invocations(self, request: Request) -> Response:
        """Answer `POST /invocations`: every row is checked before any is generated."""
        media_type, body = await read_body(request, _TYPES, self._settings.server)
        service = self._host.service
        call = await self._parse(media_type, body)
        caller = caller_of(request.scope)
        caller.check_models(self._host.identity.served_names)
        record = record_of(request.scope)
        if call.stream:
            record.stream = True
            beginning = begin(service, call, caller, record)
            begun = await unless_client_leaves(request.receive, beginning)
            return EventStream(self._plan(call), begun, record)
        work = complete(service, call, caller, record)
        answered = await unless_client_leaves(request.receive, work)
        return JSONResponse(call.answer([c.text for c in chain(*answered.completions)]))

    async def _parse(self, media_type: str, body: bytes) -> InvocationCall:
        match media_type:
            case bodies.CSV:
                return parse_csv(body)
            case bodies.PARQUET:
                return parse_table(await self._parquet.rows(body))
            case _:
                return parse_invocation(body)

    def _plan(self, call: InvocationCall) -> StreamPlan:
        fingerprint = self._host.identity.fingerprint
        head = AnswerHead(id="", created=0, model=self._host.identity.name, fingerprint=fingerprint)
        most = self._settings.server.max_buffered_events
        return StreamPlan(
            InvocationFormat(call),
            head,
            include_usage=False,
            usage_so_far=False,
            tells_ids=False,
            max_buffered_events=most,
        )
