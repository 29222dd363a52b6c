"""A streamed answer: server-sent events, an error event where it fails, [DONE] at the end."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from mooring.errors import MooringError
from mooring.generation import TextToken
from mooring.http.answering import Begun
from mooring.http.connection import ABORT
from mooring.http.disconnect import unless_client_leaves
from mooring.http.errors import problem_of
from mooring.observe.record import RequestRecord
from mooring.protocol.openai.answers import AnswerFormat, AnswerHead, Usage
from mooring.protocol.openai.told_tokens import tell_prompt, tell_stop
from mooring.service.stream import TextDelta, TextEnd

# How long a reader may take nothing while more events than allowed wait for it.
_BEHIND_SECONDS = 1.0
# Proxies close what is silent for long; a comment is no event to any client.
_SILENT_SECONDS = 15.0
_PING = b": ping\n\n"

_HEADERS = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """How a stream is to be written.

    `include_usage` asks for a last chunk with the usage, `usage_so_far` for one in every chunk, and
    `tells_ids` for token ids.
    """

    format: AnswerFormat
    head: AnswerHead
    include_usage: bool
    usage_so_far: bool
    tells_ids: bool
    max_buffered_events: int


class EventStream(StreamingResponse):
    """Sends what has begun and what follows it; cancels the rest when the client leaves."""

    def __init__(self, plan: StreamPlan, begun: Begun, record: RequestRecord) -> None:
        self._plan = plan
        self._record = record
        self._begun = begun
        self._sent = 0
        self._sending = asyncio.Lock()
        self._tokens: defaultdict[int, list[TextToken]] = defaultdict(list)
        self._token_ids: defaultdict[int, list[int]] = defaultdict(list)
        self._introduced: set[int] = set()
        self._path = ""
        super().__init__(self._events(), headers=_HEADERS, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole stream."""
        pieces, self._path = self._begun.pieces, scope["path"]

        async def send_counted(message: Message) -> None:
            async with self._sending:
                await send(message)
            self._sent += 1

        pings = asyncio.create_task(self._keep_alive(send))
        try:
            await unless_client_leaves(
                receive, self.stream_response(send_counted), self._reader_falls_behind()
            )
        except ClientDisconnect:
            self._record.client_left = True
            # Of no effect on a client that has gone; one that does not read is not waited for.
            scope["state"][ABORT]()
        finally:
            pings.cancel()
            await pieces.aclose()
            usage = self._usage()
            self._begun.reservation.settle(usage.prompt_tokens + usage.completion_tokens)

    async def _reader_falls_behind(self) -> None:
        """Return once the client takes nothing while too many events wait for it."""
        sent = -1
        while sent < self._sent or self._begun.pieces.buffered <= self._plan.max_buffered_events:
            sent = self._sent
            await asyncio.sleep(_BEHIND_SECONDS)

    async def _keep_alive(self, send: Send) -> None:
        """Send a comment whenever nothing else was sent for a while, nor waits for its reader."""
        sent = 0
        while True:
            await asyncio.sleep(_SILENT_SECONDS)
            if 0 < sent == self._sent and not self._sending.locked():
                async with self._sending:
                    await send({"type": "http.response.body", "body": _PING, "more_body": True})
            sent = self._sent

    async def _events(self) -> AsyncGenerator[bytes]:
        format, head = self._plan.format, self._plan.head
        try:
            for index in range(self._begun.choices):
                for chunk in self._with_ids(index, format.opening(head, index)):
                    yield self._line(chunk)
            for chunk in self._chunks(self._begun.first):
                yield self._line(chunk)
            async for piece in self._begun.pieces:
                for chunk in self._chunks(piece):
                    yield self._line(chunk)
            if self._plan.include_usage:
                yield self._line(format.usage(head, self._usage()))
        except MooringError as error:
            problem = problem_of(error)
            self._record.error = problem.code
            yield self._line(format.failure(head, dict(problem.body(self._path))))
        if format.stream_end:
            yield format.stream_end

    def _chunks(self, piece: TextDelta | TextEnd) -> list[dict[str, Any]]:
        format, head = self._plan.format, self._plan.head
        if isinstance(piece, TextDelta):
            if self._record.content is not None:
                self._record.content.add(piece.index, piece.text)
            chunks = format.delta(head, piece.index, piece.text)
            self._tokens[piece.index] += piece.logprobs
            self._token_ids[piece.index] += piece.token_ids
        else:
            chunks = format.end(head, piece.index, piece.reason)
            for chunk in chunks[-1:]:
                tell_stop(chunk, 0, piece.stopped_by)
        if chunks and self._tokens[piece.index]:
            # What is held back has its tokens with it: they go with the first chunk there is.
            tokens = self._tokens.pop(piece.index)
            chunks[0]["choices"][0]["logprobs"] = format.logprobs(tokens)
        return self._with_ids(piece.index, chunks)

    def _with_ids(self, index: int, chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Put in token ids, where they are asked for: the prompt's once, and those that are new."""
        if not chunks or not self._plan.tells_ids:
            return chunks
        if index not in self._introduced:
            self._introduced.add(index)
            prompt_ids = self._begun.prompt_ids[index // self._begun.per_prompt]
            tell_prompt(chunks[0], 0, "prompt_token_ids", list(prompt_ids))
        chunks[0]["choices"][0]["token_ids"] = self._token_ids.pop(index, [])
        return chunks

    def _line(self, chunk: dict[str, Any]) -> bytes:
        if self._plan.usage_so_far and "choices" in chunk:
            chunk = chunk | {"usage": self._usage().body()}
        return self._plan.format.line(chunk, usage=self._plan.include_usage)

    def _usage(self) -> Usage:
        begun = self._begun
        return Usage(begun.prompt_tokens, begun.pieces.completion_tokens, begun.cached_tokens)
