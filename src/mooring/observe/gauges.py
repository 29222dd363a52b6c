"""Metrics that are not counted but read, whenever somebody asks: what a server holds now."""

import platform
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mooring.observe.families import MODEL_LABELS as _MODEL
from mooring.observe.levels import EngineFacts, Levels, Served

# Field of `Levels`, name of the metric, what it means.
_GAUGES = (
    ("running", "num_requests_running", "Sequences that the engine generates."),
    ("waiting", "num_requests_waiting", "Sequences that wait for the engine."),
    ("cache_used", "kv_cache_usage_perc", "Share of the key/value cache in use; 1 is all."),
    ("sequences", "sequences_held", "Sequences admitted: running, waiting, or not let go yet."),
    ("sequence_limit", "sequences_limit", "Sequences that may be held at once."),
    ("waiting_tokens", "waiting_prompt_tokens", "Prompt tokens of sequences that wait."),
    ("buffered_events", "buffered_events", "Events of answers that no reader has taken yet."),
)
_COUNTERS = (
    ("preemptions", "num_preemptions", "Sequences put back to make room for others."),
    ("steps", "engine_steps", "Steps that the engine has made."),
    ("restarts", "engine_restarts", "How often the engine died and was started again."),
)


class LevelCollector(Collector):
    """Reads the levels at every scrape."""

    def __init__(self, served: Served, read: Callable[[], Levels]) -> None:
        self._model = served.labels
        self._server_version = served.server_version
        self._read = read

    def describe(self) -> list[Metric]:
        """Return nothing, so that nothing is read before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its value now."""
        levels = self._read()
        for name, metric, meaning in _GAUGES:
            gauge = GaugeMetricFamily(f"mooring_{metric}", meaning, labels=_MODEL)
            gauge.add_metric(self._model, getattr(levels, name))
            yield gauge
        for name, metric, meaning in _COUNTERS:
            counter = CounterMetricFamily(f"mooring_{metric}", meaning, labels=_MODEL)
            counter.add_metric(self._model, getattr(levels, name))
            yield counter
        yield self._state(levels)
        yield from self._facts(levels.facts)

    def _state(self, levels: Levels) -> Metric:
        meaning = "1 for the state that the server is in; requests are taken in `ready`."
        gauge = GaugeMetricFamily("mooring_state", meaning, labels=(*_MODEL, "state"))
        for state in levels.states:
            gauge.add_metric((*self._model, state), state == levels.state)
        return gauge

    def _facts(self, facts: EngineFacts | None) -> Iterator[Metric]:
        build = GaugeMetricFamily(
            "mooring_build_info", "Always 1: what runs here.", labels=("version", "python")
        )
        build.add_metric((self._server_version, platform.python_version()), 1)
        yield build
        if facts is not None:
            names = ("engine", "engine_version", "device", "precision", "context_length")
            info = GaugeMetricFamily(
                "mooring_engine_info", "Always 1: what runs the model.", labels=(*_MODEL, *names)
            )
            info.add_metric((*self._model, *(str(getattr(facts, name)) for name in names)), 1)
            yield info
