"""What a stream does while it has nothing to say."""

import asyncio
import json
import time

import pytest
from starlette.types import Message

from mooring.engines.echo import EchoSettings
from mooring.http import streaming
from mooring.http.answering import begin
from mooring.http.streaming import EventStream, StreamPlan
from mooring.observe.record import RequestRecord
from mooring.protocol.openai.answers import AnswerHead
from mooring.protocol.openai.completion_answers import CompletionFormat
from mooring.protocol.openai.completions import parse_completion
from mooring.service.callers import Caller
from mooring.service.text_service import TextService
from tests.http.serving import Running, running_server
from tests.service.texts import echo_service

BODY = {"model": "demo", "prompt": "abc", "stream": True}
SCOPE = {"type": "http", "path": "/v1/completions", "state": {}}


async def echoed(service: TextService) -> EventStream:
    """Return the streamed answer to `BODY`, begun."""
    call, record = parse_completion(json.dumps(BODY).encode()), RequestRecord()
    begun = await begin(service, call, Caller(None, time.monotonic), record)
    plan = StreamPlan(
        CompletionFormat(),
        AnswerHead(id="a", created=0, model="demo", fingerprint="f"),
        include_usage=False,
        usage_so_far=False,
        tells_ids=False,
        max_buffered_events=256,
    )
    return EventStream(plan, begun, record)


def test_a_silent_stream_sends_comments_that_clients_pass_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "_SILENT_SECONDS", 0.05)
    with running_server(EchoSettings(seconds_per_token=0.3)) as running:
        body = running.post("/v1/completions", BODY).content
        assert body.count(b": ping\n\n") >= 2
        events = [part for part in body.split(b"\n\n") if part and part != b": ping"]
        assert len(events) == 5  # three letters, the end, and [DONE]
        assert all(part.startswith(b"data: ") for part in events)
        stream = running.lenient_openai.completions.create(**BODY)  # type: ignore[call-overload]
        assert "".join(chunk.choices[0].text for chunk in stream) == "abc"


def test_a_stream_that_speaks_sends_none(echo: Running) -> None:
    assert b": ping" not in echo.post("/v1/completions", BODY).content


def test_no_comment_is_sent_while_an_event_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_SILENT_SECONDS", 0)

    async def test(service: TextService) -> None:
        sending: list[Message] = []
        readable = asyncio.Event()

        async def send(message: Message) -> None:
            """Wait for a reader, once the answer has begun."""
            sending.append(message)
            if message["type"] == "http.response.body":
                await readable.wait()

        async def receive() -> Message:
            return await asyncio.Future()

        answer = asyncio.create_task((await echoed(service))(SCOPE, receive, send))
        while len(sending) < 2:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(sending) == 2
        monkeypatch.undo()
        readable.set()
        await answer
        assert not sending[-1]["more_body"]

    with echo_service() as service:
        asyncio.run(test(service))
