"""A streamed answer: server-sent events in OpenAI's order, ended by an error event or [DONE]."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from mooring.errors import MooringError
from mooring.http.answering import Begun
from mooring.http.disconnect import unless_client_leaves
from mooring.http.errors import problem_of
from mooring.http.identification import record_of
from mooring.protocol.answers import STREAM_END, AnswerFormat, AnswerHead, Usage, event_line
from mooring.service.stream import TextDelta, TextEnd

_HEADERS = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """How a stream is to be written."""

    format: AnswerFormat
    head: AnswerHead
    include_usage: bool


class EventStream(StreamingResponse):
    """Sends what has begun and what follows it; cancels the rest when the client leaves."""

    def __init__(self, plan: StreamPlan, begun: Begun) -> None:
        self._plan = plan
        self._begun = begun
        super().__init__(self._events(), headers=_HEADERS, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole stream."""
        record, pieces = record_of(scope), self._begun.pieces
        try:
            await unless_client_leaves(receive, self.stream_response(send))
        except ClientDisconnect:
            record.client_left = True
        finally:
            await pieces.aclose()
            record.count_tokens(self._begun.prompt_tokens, pieces.completion_tokens)
            self._begun.reservation.settle(self._begun.prompt_tokens + pieces.completion_tokens)

    async def _events(self) -> AsyncGenerator[bytes]:
        format, head = self._plan.format, self._plan.head
        try:
            for index in range(self._begun.choices):
                for chunk in format.opening(head, index):
                    yield self._line(chunk)
            yield self._piece(self._begun.first)
            async for piece in self._begun.pieces:
                yield self._piece(piece)
            if self._plan.include_usage:
                yield event_line(format.usage(head, self._usage()))
        except MooringError as error:
            yield event_line(problem_of(error).openai_body())
        yield STREAM_END

    def _piece(self, piece: TextDelta | TextEnd) -> bytes:
        format, head = self._plan.format, self._plan.head
        if isinstance(piece, TextDelta):
            return self._line(format.delta(head, piece.index, piece.text))
        return self._line(format.end(head, piece.index, piece.reason))

    def _line(self, chunk: dict[str, object]) -> bytes:
        return event_line(chunk | {"usage": None} if self._plan.include_usage else chunk)

    def _usage(self) -> Usage:
        return Usage(self._begun.prompt_tokens, self._begun.pieces.completion_tokens)
