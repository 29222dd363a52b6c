"""The metrics of sequences, by the key that they were generated for."""

from prometheus_client import Counter, Histogram

from mooring.observe import buckets
from mooring.observe.families import MODEL_LABELS, Families
from mooring.observe.record import ENDS, Meter, SequenceRecord

_LABELS = (*MODEL_LABELS, "key_name")

_COUNTERS = {
    "prompt_tokens": "Prompt tokens of sequences that the engine has begun with.",
    "generation_tokens": "Tokens generated.",
    "prefix_cache_queries": "Prompt tokens that were looked up in the cache.",
    "prefix_cache_hits": "Prompt tokens that were found in the cache.",
}
_HISTOGRAMS = {
    "time_to_first_token_seconds": ("Time to the first token.", buckets.FIRST_TOKEN_SECONDS),
    "inter_token_latency_seconds": ("Time from one token to the next.", buckets.TOKEN_SECONDS),
    "request_time_per_output_token_seconds": (
        "Mean time per token after the first of a sequence.", buckets.TOKEN_SECONDS,
    ),
    "e2e_request_latency_seconds": ("Time to the last token.", buckets.REQUEST_SECONDS),
    "request_queue_time_seconds": ("Time waiting for the engine.", buckets.REQUEST_SECONDS),
    "request_prefill_time_seconds": ("Time reading the prompt.", buckets.REQUEST_SECONDS),
    "request_decode_time_seconds": ("Time from first to last token.", buckets.REQUEST_SECONDS),
    "request_inference_time_seconds": ("Time in the engine.", buckets.REQUEST_SECONDS),
    "request_prompt_tokens": ("Prompt tokens of a sequence.", buckets.TOKENS),
    "request_generation_tokens": ("Generated tokens of a sequence.", buckets.TOKENS),
    "request_params_max_tokens": ("What max_tokens was.", buckets.TOKENS),
}  # fmt: skip


class SequenceMetrics:
    """Declares the metrics, and makes a meter per key."""

    def __init__(self, families: Families, model: tuple[str, str]) -> None:
        self._model = model
        self._counters = {
            name: families.counter(name, meaning, _LABELS) for name, meaning in _COUNTERS.items()
        }
        self._histograms = {
            name: families.histogram(name, meaning, _LABELS, within)
            for name, (meaning, within) in _HISTOGRAMS.items()
        }
        self._ends = families.counter(
            "request_success", "Sequences that ended, by how.", (*_LABELS, "finished_reason")
        )
        self._meters: dict[str, Meter] = {}

    def of(self, key: str | None) -> Meter:
        """Return the meter for the key of that name, None for no key."""
        name = key or ""
        meter = self._meters.get(name)
        if meter is None:
            meter = self._meters[name] = self._meter((*self._model, name))
        return meter

    def _meter(self, labels: tuple[str, ...]) -> Meter:
        """Look the labels up once, not with every token."""
        return _KeyMeter(
            {name: counter.labels(*labels) for name, counter in self._counters.items()},
            {name: histogram.labels(*labels) for name, histogram in self._histograms.items()},
            {end: self._ends.labels(*labels, end) for end in ENDS},
        )


class _KeyMeter:
    """Counts the sequences of one key."""

    def __init__(
        self,
        counters: dict[str, Counter],
        histograms: dict[str, Histogram],
        ends: dict[str, Counter],
    ) -> None:
        self._counters = counters
        self._histograms = histograms
        self._ends = ends
        self._tokens = counters["generation_tokens"]
        self._first_token = histograms["time_to_first_token_seconds"]
        self._next_token = histograms["inter_token_latency_seconds"]

    def started(self, sequence: SequenceRecord) -> None:
        self._counters["prompt_tokens"].inc(sequence.prompt_tokens)

    def grew(self, sequence: SequenceRecord, tokens: int, seconds: float) -> None:
        self._tokens.inc(tokens)
        first = sequence.tokens == tokens
        (self._first_token if first else self._next_token).observe(seconds)

    def ended(self, sequence: SequenceRecord) -> None:
        assert sequence.end is not None
        self._ends[sequence.end].inc()
        if sequence.started_at is not None:
            self._counters["prefix_cache_queries"].inc(sequence.prompt_tokens)
            self._counters["prefix_cache_hits"].inc(sequence.cached_tokens)
        for name, value in (
            ("request_prompt_tokens", sequence.prompt_tokens),
            ("request_generation_tokens", sequence.tokens),
            ("request_params_max_tokens", sequence.sampling.max_tokens),
            ("request_queue_time_seconds", sequence.queue_seconds),
            ("request_prefill_time_seconds", sequence.prefill_seconds),
            ("request_decode_time_seconds", sequence.decode_seconds),
            ("request_inference_time_seconds", sequence.inference_seconds),
            ("e2e_request_latency_seconds", sequence.seconds),
            ("request_time_per_output_token_seconds", sequence.seconds_per_token),
        ):
            if value is not None:
                self._histograms[name].observe(value)
