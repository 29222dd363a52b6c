"""Reads what a server exports, as Prometheus would."""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Scrape:
    """Every sample of one scrape, by name."""

    samples: Mapping[str, list[tuple[dict[str, str], float]]]
    families: frozenset[str]

    @property
    def names(self) -> set[str]:
        return set(self.samples)

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have these labels; 0 if there are none."""
        return sum(
            value
            for found, value in self.samples.get(f"mooring_{name}", [])
            if labels.items() <= found.items()
        )

    def label_values(self) -> set[str]:
        """Return every value of every label."""
        return {
            value
            for samples in self.samples.values()
            for labels, _ in samples
            for value in labels.values()
        }


def read_metrics(text: str) -> Scrape:
    """Return what a scrape says."""
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    families = set()
    for family in text_string_to_metric_families(text):
        families.add(family.name + "_total" * (family.type == "counter"))
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Scrape(samples, frozenset(families))
