"""A request that is over as OpenTelemetry spans, by the semantic conventions for generative AI."""

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import default_getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mooring.observe.record import RequestRecord, SequenceRecord

PROVIDER = "mooring"

_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/invocations": "text_completion",
}
_PHASES = ("queue", "prefill", "decode")
_NANOSECONDS = 10**9
# What a request may set, by its name in `SamplingParams` and in the conventions.
_PARAMETERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}


def operation_of(record: RequestRecord) -> str | None:
    """Return what a request wanted generated, None if nothing: then it has no span."""
    return _OPERATIONS.get(record.route)


class SpanWriter:
    """Turns records into ended spans; used by one thread."""

    def __init__(self, model: str, resource: Resource, sampler: Sampler | None = None) -> None:
        self._model = model
        self._ended = _Ended()
        provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("mooring")

    def write(self, record: RequestRecord, *, joins: bool = True) -> list[ReadableSpan]:
        """Return the spans of a request, children first; none if it is not sampled.

        One that `joins` belongs to the trace that the client named.
        """
        parent = Context()
        if joins:
            parent = TraceContextTextMapPropagator().extract(
                record.trace_headers, parent, default_getter
            )
        model = record.asked_model or self._model
        span = self._tracer.start_span(
            f"{operation_of(record)} {model}",
            parent,
            SpanKind.SERVER,
            attributes=_attributes(record, model, self._model),
            start_time=_at(record, record.began),
        )
        inside = set_span_in_context(span, parent)
        for index, sequence in enumerate(record.sequences):
            _write_phases(self._tracer, record, sequence, index, inside)
        _end(span, record)
        return self._ended.take()


class _Ended(SpanProcessor):
    """Collects spans as they end."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self._spans.append(span)

    def take(self) -> list[ReadableSpan]:
        spans, self._spans = self._spans, []
        return spans


def _attributes(record: RequestRecord, asked: str, model: str) -> Mapping[str, Any]:
    found: dict[str, Any] = {
        "gen_ai.operation.name": operation_of(record),
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": asked,
        "gen_ai.response.model": model,
        "http.request.method": record.method,
        "http.route": record.route,
        "http.response.status_code": record.shown_status,
        "mooring.request_id": record.request_id,
        "mooring.model": record.model,
        "mooring.key_name": record.key,
        "error.type": record.error,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": record.cached_tokens,
        "gen_ai.response.finish_reasons": record.ends or None,
    }
    if record.sequences:
        sampling = record.sequences[0].sampling
        found |= {name: getattr(sampling, field) for field, name in _PARAMETERS.items()}
    if record.content is not None:
        found["gen_ai.input.messages"] = json.dumps(record.content.inputs())
        found["gen_ai.output.messages"] = json.dumps(record.content.outputs(record.ends))
    return {name: value for name, value in found.items() if value is not None}


def _write_phases(
    tracer: Tracer, record: RequestRecord, sequence: SequenceRecord, index: int, inside: Context
) -> None:
    """Write what a sequence waited for, and what the engine did for it, as far as it came."""
    moments = (sequence.sent_at, sequence.started_at, sequence.first_at, sequence.last_at)
    for name, (begin, end) in zip(_PHASES, pairwise(moments), strict=True):
        if begin is not None and end is not None:
            child = tracer.start_span(
                name,
                inside,
                attributes={"mooring.sequence": index},
                start_time=_at(record, begin),
            )
            child.end(_at(record, end))


def _end(span: Span, record: RequestRecord) -> None:
    if record.error is not None or record.status >= 500:
        span.set_status(Status(StatusCode.ERROR, record.error))
    span.end(_at(record, record.began + record.seconds))


def _at(record: RequestRecord, moment: float) -> int:
    """Return a monotonic time as nanoseconds since the epoch."""
    return round((record.began_at + moment - record.began) * _NANOSECONDS)
