"""What a benchmark has found: figures, ratios, and the plain values for JSON and for metrics."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mooring.bench.figures import Figures
from mooring.bench.work import Scenario


@dataclass(frozen=True, slots=True)
class Measured:
    """One target's figures by scenario; `peak_memory_bytes` is None where it cannot be known."""

    target: str
    facts: Mapping[str, str]
    peak_memory_bytes: int | None
    figures: Mapping[str, Figures]


@dataclass(frozen=True, slots=True)
class Ratio:
    """The first target beside another: above 1 it makes more tokens, below 1 it waits less."""

    scenario: str
    against: str
    tokens_per_second: float | None
    first_token: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All figures of one benchmark."""

    scenarios: tuple[Scenario, ...]
    measured: tuple[Measured, ...]

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """The first target's figures divided by those of each other."""
        first, *others = self.measured
        return tuple(
            _ratio(scenario.name, first.figures[scenario.name], other)
            for other in others
            for scenario in self.scenarios
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, times in seconds."""
        return {
            "scenarios": [
                {
                    "name": scenario.name,
                    "requests": len(scenario.work),
                    "prompt_tokens": scenario.prompt_tokens,
                    "output_tokens": scenario.output_tokens,
                }
                for scenario in self.scenarios
            ],
            "targets": [asdict(measured) for measured in self.measured],
            "ratios": [asdict(ratio) for ratio in self.ratios],
        }

    def metrics(self) -> dict[str, float]:
        """Return the first target's figures as names and numbers, for a metric store."""
        first = self.measured[0]
        metrics: dict[str, float] = {}
        for name, figures in first.figures.items():
            prefix = "bench." + name.replace(" ", "_")
            if figures.tokens_per_second is not None:
                metrics[f"{prefix}.tokens_per_second"] = figures.tokens_per_second
            metrics |= _named(f"{prefix}.first_token_seconds", asdict(figures.first_token))
            if figures.inter_token is not None:
                metrics |= _named(f"{prefix}.inter_token_seconds", asdict(figures.inter_token))
        if first.peak_memory_bytes is not None:
            metrics["bench.peak_memory_bytes"] = float(first.peak_memory_bytes)
        return metrics


def _ratio(scenario: str, first: Figures, other: Measured) -> Ratio:
    theirs = other.figures[scenario]
    speeds = (first.tokens_per_second, theirs.tokens_per_second)
    return Ratio(
        scenario=scenario,
        against=other.target,
        tokens_per_second=None if None in speeds else _over(*speeds),
        first_token=_over(first.first_token.p50, theirs.first_token.p50),
    )


def _over(ours: float | None, theirs: float | None) -> float:
    assert ours is not None
    assert theirs is not None
    return ours / theirs


def _named(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}.{name}": value for name, value in values.items()}
