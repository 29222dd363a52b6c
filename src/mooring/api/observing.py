"""Who observes a server: what its settings say, put together."""

from contextlib import ExitStack

from mooring.http.app import metrics_of
from mooring.observe.levels import Served
from mooring.observe.metrics import Metrics
from mooring.observe.observers import Observers
from mooring.observe.record import RequestObserver
from mooring.registry import LoggedModel
from mooring.service.host import ModelHost
from mooring.settings import TelemetrySettings


def observers_of(
    host: ModelHost, settings: TelemetrySettings, logged: LoggedModel | None, stack: ExitStack
) -> Observers:
    """Return the observers of the server of `host`; they end with `stack`.

    `logged` is where sampled traces belong. Libraries of telemetry are imported only if it is on.
    """
    metrics, others = metrics_of(host), list[RequestObserver]()
    served = metrics.served
    if settings.otlp_spans or settings.otlp_metrics:
        others += _over_otlp(served, settings, metrics, stack)
    if logged is not None and settings.trace_sample_rate > 0:
        others.append(_to_mlflow(served, settings.trace_sample_rate, logged, metrics, stack))
    return Observers(metrics, others, keeps_content=settings.trace_content and bool(others))


def _over_otlp(
    served: Served, settings: TelemetrySettings, metrics: Metrics, stack: ExitStack
) -> list[RequestObserver]:
    from mooring.observe.otlp import OtlpMetrics, OtlpSpans

    found: list[RequestObserver] = []
    if settings.otlp_spans:
        spans = OtlpSpans(served, settings.otlp_endpoint, metrics.drops_to("otlp"))
        stack.callback(spans.close)
        found.append(spans)
    if settings.otlp_metrics:
        numbers = OtlpMetrics(served, settings.otlp_endpoint)
        stack.callback(numbers.close)
        found.append(numbers)
    return found


def _to_mlflow(
    served: Served, rate: float, logged: LoggedModel, metrics: Metrics, stack: ExitStack
) -> RequestObserver:
    from mooring.observe.mlflow_traces import Destination, MlflowTraces

    destination = Destination(logged.tracking_uri, logged.experiment_id, logged.model_id)
    traces = MlflowTraces(served, destination, rate, metrics.drops_to("mlflow"))
    stack.callback(traces.close)
    return traces
