"""Requests to an OpenTelemetry collector over OTLP/HTTP: spans, and the metrics of generative AI.

Addresses, headers, certificates, time-outs and sampling are the standard variables', which the
exporters read themselves.
"""

from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from mooring.observe import outbox
from mooring.observe.levels import Served
from mooring.observe.outbox import Outbox
from mooring.observe.record import RequestRecord
from mooring.observe.spans import PROVIDER, SpanWriter, operation_of

_DURATION_BUCKETS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
_FIRST_TOKEN_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
_TOKEN_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
)  # fmt: skip
_USAGE_BUCKETS = tuple(float(4**power) for power in range(14))


class OtlpSpans:
    """Sends the spans of every generating request, sampled as the client's trace or variables say.

    `endpoint` is the base of the receiver's address; the variables' if None.
    """

    def __init__(self, served: Served, endpoint: str | None, drop: Callable[[int], None]) -> None:
        self._writer = SpanWriter(served.name, resource_of(served))
        self._exporter = OTLPSpanExporter(endpoint=_path(endpoint, "traces"))
        self._outbox = Outbox("OTLP spans", self._deliver, drop)

    def answered(self, record: RequestRecord) -> None:
        """Take a request; never waits."""
        if operation_of(record) is not None:
            self._outbox.put(record)

    def close(self) -> None:
        """Send the rest, within seconds."""
        self._outbox.close()
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the library says nothing

    def _deliver(self, records: Sequence[RequestRecord]) -> None:
        spans = [span for record in records for span in self._writer.write(record)]
        if spans and self._exporter.export(spans) is not SpanExportResult.SUCCESS:
            raise ConnectionError("the receiver of OTLP does not take them")


class OtlpMetrics:
    """Sends the metrics that the conventions for generative AI name, every minute unless told."""

    def __init__(self, served: Served, endpoint: str | None) -> None:
        self._model = served.name
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=_path(endpoint, "metrics"))
        )
        self._provider = MeterProvider([reader], resource_of(served), shutdown_on_exit=False)
        histogram = self._provider.get_meter("mooring").create_histogram
        self._duration = histogram(
            "gen_ai.server.request.duration", "s", "Time to answer a request.",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS,
        )  # fmt: skip
        self._first_token = histogram(
            "gen_ai.server.time_to_first_token", "s", "Time to the first token of an answer.",
            explicit_bucket_boundaries_advisory=_FIRST_TOKEN_BUCKETS,
        )  # fmt: skip
        self._per_token = histogram(
            "gen_ai.server.time_per_output_token", "s", "Mean time per token after the first.",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        )  # fmt: skip
        self._usage = histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens read and generated.",
            explicit_bucket_boundaries_advisory=_USAGE_BUCKETS,
        )  # fmt: skip

    def answered(self, record: RequestRecord) -> None:
        """Note a request; nothing is sent here."""
        operation = operation_of(record)
        if operation is None:
            return
        labels = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": record.asked_model or self._model,
            "gen_ai.response.model": self._model,
        }
        failed = {} if record.error is None else {"error.type": record.error}
        self._duration.record(record.seconds, labels | failed)
        if record.prompt_tokens is not None and record.completion_tokens is not None:
            for kind, tokens in (
                ("input", record.prompt_tokens),
                ("output", record.completion_tokens),
            ):
                self._usage.record(tokens, labels | {"gen_ai.token.type": kind})
        for sequence in record.sequences:
            if sequence.end not in ("stop", "length"):
                continue
            if sequence.first_token_seconds is not None:
                self._first_token.record(sequence.first_token_seconds, labels)
            if sequence.seconds_per_token is not None:
                self._per_token.record(sequence.seconds_per_token, labels)

    def close(self) -> None:
        """Send what was noted since the last time, within seconds."""
        self._provider.shutdown(timeout_millis=1000 * outbox.CLOSING_SECONDS)


def resource_of(served: Served) -> Resource:
    """Return what sends: as the standard variables name it, or `mooring`."""
    resource = Resource.create({SERVICE_VERSION: served.server_version})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "mooring"}))
    return resource


def _path(endpoint: str | None, signal: str) -> str | None:
    return None if endpoint is None else f"{endpoint.rstrip('/')}/v1/{signal}"
