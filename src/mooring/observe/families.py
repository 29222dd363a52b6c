"""How our metrics are declared: one prefix, the labels of the model first, one registry."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram

MODEL_LABELS = ("model_name", "model_version")

_PREFIX = "mooring"


class Families:
    """Declares metrics in one registry; those of the model have its labels before their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, meaning: str, labels: Sequence[str]) -> Counter:
        """Declare a counter; its name ends in `_total` when it is shown."""
        return Counter(name, meaning, labels, namespace=_PREFIX, registry=self._registry)

    def histogram(
        self, name: str, meaning: str, labels: Sequence[str], buckets: Sequence[float]
    ) -> Histogram:
        """Declare a histogram."""
        return Histogram(
            name, meaning, labels, namespace=_PREFIX, registry=self._registry, buckets=buckets
        )
