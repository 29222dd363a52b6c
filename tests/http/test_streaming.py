"""What a stream does while it has nothing to say."""

import pytest

from mooring.engines.echo import EchoSettings
from mooring.http import streaming
from tests.http.serving import Running, running_server

BODY = {"model": "demo", "prompt": "abc", "stream": True}


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
