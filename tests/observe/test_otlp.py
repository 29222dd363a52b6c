"""What a collector gets over OTLP after real requests."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from mooring.engines.echo import EchoSettings
from mooring.http.app import metrics_of
from mooring.observe import outbox
from mooring.observe.observers import Observers
from mooring.observe.otlp import OtlpMetrics, OtlpSpans
from mooring.service.host import ModelHost
from tests.http.serving import LABEL, Running, running_server
from tests.observe.receiver import Receiver, attributes, receiver

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CHAT: dict[str, Any] = {
    "model": "org/champion", "messages": [{"role": "user", "content": "secret"}],
}  # fmt: skip


@contextmanager
def observed(
    to: Receiver, *, keeps_content: bool = False, engine: EchoSettings | None = None
) -> Iterator[Running]:
    """Serve with spans and metrics going to a receiver, which has them all at the end."""
    ends = []

    def observe(host: ModelHost) -> Observers:
        metrics = metrics_of(host)
        spans = OtlpSpans(metrics.served, to.url, metrics.drops_to("otlp"))
        numbers = OtlpMetrics(metrics.served, to.url)
        ends.extend([spans.close, numbers.close])
        return Observers(metrics, (spans, numbers), keeps_content=keeps_content)

    with running_server(engine, observe=observe) as running:
        yield running
    for end in ends:
        end()


@pytest.fixture(autouse=True)
def _patient_without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "CLOSING_SECONDS", 60.0)
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)


def children(spans: list[Span], parent: Span) -> list[Span]:
    return [span for span in spans if span.parent_span_id == parent.span_id]


def test_a_chat_is_a_span_with_its_phases() -> None:
    with receiver() as to:
        with observed(to) as running:
            fields = {"temperature": 0.5, "max_tokens": 3, "seed": 7, "n": 2}
            headers = {"x-request-id": "r-1"}
            assert running.post("/v1/chat/completions", CHAT | fields, **headers).is_success
        spans = to.spans
        assert to.paths == {"/v1/traces", "/v1/metrics"}
        assert to.resource["service.name"] == "mooring"
    root = spans[-1]
    assert (root.name, root.kind) == ("chat org/champion", Span.SPAN_KIND_SERVER)
    assert root.parent_span_id == b""
    assert attributes(root.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mooring",
        "gen_ai.request.model": "org/champion",
        "gen_ai.response.model": "demo",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.top_k": 0,
        "gen_ai.request.max_tokens": 3,
        "gen_ai.request.seed": 7,
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.request.choice.count": 2,
        "gen_ai.usage.input_tokens": len("user:secret\n"),
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.response.finish_reasons": ["length", "length"],
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "mooring.request_id": "r-1",
        "mooring.model": LABEL,
    }
    phases = children(spans, root)
    assert [phase.name for phase in phases] == ["queue", "prefill", "decode"] * 2
    for phase in phases:
        assert root.start_time_unix_nano <= phase.start_time_unix_nano
        assert phase.start_time_unix_nano <= phase.end_time_unix_nano <= root.end_time_unix_nano
    assert "secret" not in str(spans)


def test_the_clients_trace_goes_on_if_it_is_sampled() -> None:
    with receiver() as to:
        with observed(to) as running:
            for flag in ("01", "00"):
                header = {"traceparent": f"00-{TRACE}-{PARENT}-{flag}"}
                assert running.post("/v1/chat/completions", CHAT, **header).is_success
            assert running.client.get("/v1/models").is_success
        roots = [span for span in to.spans if span.kind == Span.SPAN_KIND_SERVER]
    (root,) = roots
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, PARENT)


def test_failures_and_refusals_are_spans_too() -> None:
    body = {"model": "demo", "prompt": [97], "stream": True}
    with receiver() as to:
        with observed(to, engine=EchoSettings(fail_after=lambda request: 1)) as running:
            assert "generation_failed" in running.post("/v1/completions", body).text
            assert running.post("/v1/completions", body | {"model": "no"}).status_code == 404
        roots = [span for span in to.spans if span.kind == Span.SPAN_KIND_SERVER]
    failed, refused = (attributes(root.attributes) for root in roots)
    assert [root.status.code for root in roots] == [Status.STATUS_CODE_ERROR] * 2
    assert (failed["error.type"], failed["http.response.status_code"]) == ("generation_failed", 200)
    assert failed["gen_ai.response.finish_reasons"] == ["error"]
    assert (refused["error.type"], refused["http.response.status_code"]) == ("model_not_found", 404)
    assert refused["gen_ai.request.model"] == "demo"
    assert "gen_ai.usage.input_tokens" not in refused


@pytest.mark.parametrize("stream", [False, True])
def test_content_is_sent_only_if_wanted(stream: bool) -> None:
    with receiver() as to:
        with observed(to, keeps_content=True) as running:
            assert running.post("/v1/chat/completions", CHAT | {"stream": stream}).is_success
        found = attributes(to.spans[-1].attributes)
    assert json.loads(found["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "secret"}]}
    ]
    assert json.loads(found["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "user:secret\n"}],
            "finish_reason": "stop",
        }
    ]


def test_the_metrics_are_those_of_the_conventions() -> None:
    with receiver() as to:
        with observed(to) as running:
            assert running.post("/v1/chat/completions", CHAT | {"max_tokens": 4}).is_success
            assert running.post("/v1/chat/completions", CHAT | {"model": "no"}).status_code == 404
        histograms = to.histograms
    points = {
        name: [
            (attributes(point.attributes), point.count, point.sum, list(point.explicit_bounds))
            for point in metric.histogram.data_points
        ]
        for name, metric in histograms.items()
    }
    own = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "mooring",
        "gen_ai.request.model": "org/champion", "gen_ai.response.model": "demo",
    }  # fmt: skip
    usage = sorted(points["gen_ai.client.token.usage"], key=lambda point: str(point[0]))
    assert [(labels, total) for labels, _, total, _ in usage] == [
        (own | {"gen_ai.token.type": "input"}, len("user:secret\n")),
        (own | {"gen_ai.token.type": "output"}, 4),
    ]
    assert usage[0][3][:4] == [1, 4, 16, 64]
    for name in ("gen_ai.server.time_to_first_token", "gen_ai.server.time_per_output_token"):
        ((labels, count, _, _),) = points[name]
        assert (labels, count) == (own, 1)
    answered, refused = points["gen_ai.server.request.duration"]
    assert answered[:2] == (own, 1)
    assert refused[0]["error.type"] == "model_not_found"
    assert refused[0]["gen_ai.request.model"] == "demo"
    units = {name: metric.unit for name, metric in histograms.items()}
    assert units == dict.fromkeys(units, "s") | {"gen_ai.client.token.usage": "{token}"}


def test_the_sender_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=chat,deployment=blue")
    with receiver() as to:
        with observed(to) as running:
            assert running.post("/v1/chat/completions", CHAT).is_success
        assert (to.resource["service.name"], to.resource["deployment"]) == ("chat", "blue")
