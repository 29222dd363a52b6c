"""The route of `/v1/decisions`: questions answered with probabilities, without generating text."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mooring.errors import MooringError
from mooring.http.access import caller_of
from mooring.http.bodies import JSON, read_body
from mooring.http.disconnect import unless_client_leaves
from mooring.http.identification import record_of
from mooring.protocol.openai.decisions import DecisionCall, decision_body, parse_decisions
from mooring.service.host import ModelHost
from mooring.service.weighing import Choices, question_tokens, read_choices, weigh
from mooring.settings import ServerSettings


class DecisionRoutes:
    """Answers typed questions with one model."""

    def __init__(self, host: ModelHost, settings: ServerSettings) -> None:
        self._host = host
        self._settings = settings

    async def decisions(self, request: Request) -> Response:
        """Answer `POST /v1/decisions`."""
        _, body = await read_body(request, (JSON,), self._settings.server)
        self._host.check_ready()
        call = parse_decisions(body)
        self._host.check_name(call.model)
        caller_of(request.scope).check_models((call.model,))
        record_of(request.scope).asked_model = call.model
        return await unless_client_leaves(request.receive, self._decide(request, call))

    async def _decide(self, request: Request, call: DecisionCall) -> Response:
        service = self._host.service
        read = await read_choices(service, [Choices(q.prompt, q.answers) for q in call.questions])
        tokens = question_tokens(read)
        reservation = caller_of(request.scope).reserve(tokens)
        try:
            weighed = await weigh(service, read, record_of(request.scope))
        except MooringError:
            reservation.settle(0)
            raise
        reservation.settle(tokens)
        answers = [
            question.body(found.probabilities)
            for question, found in zip(call.questions, weighed, strict=True)
        ]
        cached = sum(found.cached_tokens for found in weighed)
        return JSONResponse(decision_body(call.model, answers, tokens=tokens, cached_tokens=cached))
