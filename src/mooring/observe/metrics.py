"""The metrics of one server, under vLLM's names with the prefix `mooring_`."""

from collections.abc import Callable
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from mooring.observe import buckets
from mooring.observe.families import MODEL_LABELS, Families
from mooring.observe.gauges import LevelCollector
from mooring.observe.levels import Levels, Served
from mooring.observe.record import Meter, RequestRecord
from mooring.observe.sequence_metrics import SequenceMetrics

Destination = Literal["otlp", "mlflow"]

CONTENT_TYPE = CONTENT_TYPE_LATEST

_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})


class Metrics:
    """Counts what one server does; several may live in one process.

    `read` returns what the server holds now and is called at every scrape. All values of labels
    are names that the operator chose, or ours; nothing that a client sends becomes one.
    """

    def __init__(self, served: Served, read: Callable[[], Levels]) -> None:
        self.served = served
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._model = served.labels
        families = Families(self._registry)
        self._sequences = SequenceMetrics(families, self._model)
        self._registry.register(LevelCollector(served, read))
        self._n = families.histogram(
            "request_params_n", "What n was.", (*MODEL_LABELS, "key_name"), buckets.COMPLETIONS
        )
        self._errors = families.counter(
            "request_errors", "Requests answered with an error, by its code.",
            (*MODEL_LABELS, "key_name", "code"),
        )  # fmt: skip
        self._requests = families.counter(
            "http_requests", "HTTP requests answered.", ("route", "method", "status")
        )
        self._seconds = families.histogram(
            "http_request_duration_seconds", "Time to answer an HTTP request, whole streams too.",
            ("route",), buckets.HTTP_SECONDS,
        )  # fmt: skip
        self._lag = families.histogram(
            "event_loop_lag_seconds", "How late the server's event loop is.", (),
            buckets.LAG_SECONDS,
        )  # fmt: skip

        self._dropped = families.counter(
            "traces_dropped", "Traces that could not be delivered, by where to.", ("destination",)
        )
        for destination in get_args(Destination):
            self._dropped.labels(destination)

    def of(self, key: str | None) -> Meter:
        """Return the meter for the key of that name, None for no key."""
        return self._sequences.of(key)

    def answered(self, record: RequestRecord) -> None:
        """Count a request that is over."""
        route = record.route or "other"
        method = record.method if record.method in _METHODS else "other"
        self._requests.labels(route, method, str(record.shown_status)).inc()
        self._seconds.labels(route).observe(record.seconds)
        key = record.key or ""
        if record.error is not None:
            self._errors.labels(*self._model, key, record.error).inc()
        if record.sequences:
            self._n.labels(*self._model, key).observe(record.sequences[0].sampling.n)

    def loop_lagged(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._lag.observe(seconds)

    def drops_to(self, destination: Destination) -> Callable[[int], None]:
        """Return what counts traces that `destination` did not get; for any thread."""
        counter = self._dropped.labels(destination)
        return lambda count: counter.inc(count)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
