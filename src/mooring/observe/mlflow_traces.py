"""Samples of requests as MLflow traces, which belong to the logged model that answered."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from mooring.observe.levels import Served
from mooring.observe.otlp import resource_of
from mooring.observe.outbox import Outbox
from mooring.observe.record import RequestRecord
from mooring.observe.spans import SpanWriter, operation_of

if TYPE_CHECKING:
    from mlflow.entities import TraceInfo

_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Destination:
    """Where traces go: a tracking server or store, an experiment, and the logged model there."""

    tracking_uri: str
    experiment_id: str
    model_id: str


class MlflowTraces:
    """Sends a share of all generating requests, `rate` from 0 to 1, each as a trace of its own."""

    def __init__(
        self,
        served: Served,
        destination: Destination,
        rate: float,
        drop: Callable[[int], None],
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        from mlflow.tracing.client import TracingClient

        # Made here, as it takes seconds, which the first request's trace would have to wait for.
        self._client = TracingClient(destination.tracking_uri)
        self._destination = destination
        self._rate = rate
        self._chance = chance
        self._writer = SpanWriter(served.name, resource_of(served), ALWAYS_ON)
        self._outbox = Outbox("MLflow traces", self._deliver, drop, most=1)

    def answered(self, record: RequestRecord) -> None:
        """Take a request if it is in the sample; never waits."""
        if operation_of(record) is not None and self._chance() < self._rate:
            self._outbox.put(record)

    def close(self) -> None:
        """Send the rest, within seconds."""
        self._outbox.close()

    def _deliver(self, records: Sequence[RequestRecord]) -> None:
        from mlflow.entities import Span

        for record in records:
            spans = self._writer.write(record, joins=False)
            encoded = encode_spans(spans).resource_spans
            self._client.start_trace(self._info(record, spans))
            self._client.log_spans(
                self._destination.experiment_id,
                [
                    Span.from_otel_proto(span)
                    for of_resource in encoded
                    for of_scope in of_resource.scope_spans
                    for span in of_scope.spans
                ],
            )

    def _info(self, record: RequestRecord, spans: Sequence[ReadableSpan]) -> "TraceInfo":
        from mlflow.entities import TraceInfo, TraceLocation, TraceState
        from mlflow.tracing.constant import TraceMetadataKey, TraceTagKey
        from mlflow.tracing.utils import generate_mlflow_trace_id_from_otel_trace_id

        root = spans[-1]
        failed = record.error is not None or record.client_left
        return TraceInfo(
            trace_id=generate_mlflow_trace_id_from_otel_trace_id(root.context.trace_id),
            trace_location=TraceLocation.from_experiment_id(self._destination.experiment_id),
            request_time=round(record.began_at * _MILLISECONDS),
            execution_duration=round(record.seconds * _MILLISECONDS),
            state=TraceState.ERROR if failed else TraceState.OK,
            client_request_id=record.request_id,
            trace_metadata={
                TraceMetadataKey.MODEL_ID: self._destination.model_id,
                TraceMetadataKey.TOKEN_USAGE: json.dumps(_usage(record)),
            },
            tags={TraceTagKey.TRACE_NAME: root.name},
            **_previews(record),
        )


def _usage(record: RequestRecord) -> dict[str, int]:
    read, written = record.prompt_tokens or 0, record.completion_tokens or 0
    return {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}


def _previews(record: RequestRecord) -> dict[str, Any]:
    if record.content is None:
        return {}
    return {
        "request_preview": json.dumps(record.content.inputs()),
        "response_preview": json.dumps(record.content.outputs(record.ends)),
    }
