"""What a run has found, and whether that is good enough."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.soak.exchange import Exchange


@dataclass(frozen=True)
class Check:
    """One rule of a run: what was measured, and whether it passed.

    One about `time` may fail a good server on a machine that others use at that moment.
    """

    rule: str
    found: str
    passed: bool
    time: bool = False


@dataclass
class Report:
    """The figures and checks of one run; it passes if all its checks do."""

    run: str
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every rule was kept; a run without any has shown nothing."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def only_slow(self) -> bool:
        """Whether all that failed are rules about time."""
        return all(check.passed or check.time for check in self.checks)

    def at_most(self, rule: str, found: float, limit: float, *, time: bool = True) -> None:
        """Check that a number is not above its limit."""
        self.checks.append(Check(f"{rule} <= {limit:.4g}", f"{found:.4g}", found <= limit, time))

    def none(self, rule: str, found: Sequence[object] | int) -> None:
        """Check that there is nothing, or show the first of what there is."""
        count = found if isinstance(found, int) else len(found)
        shown = "" if isinstance(found, int) or not found else f", first {str(found[0])[:200]}"
        self.checks.append(Check(f"no {rule}", f"{count}{shown}", count == 0))

    def count(self, exchanges: Sequence[Exchange]) -> None:
        """Keep how many answers of each status there were, and how fast they came."""
        statuses = Counter(str(one.status) for one in exchanges)
        self.figures["statuses"] = dict(sorted(statuses.items()))
        firsts = [one.first for one in exchanges if one.first is not None and one.status == 200]
        gaps = [gap for one in exchanges if one.status == 200 for gap in one.gaps]
        for name, values in (("first_token_ms", firsts), ("gap_ms", gaps)):
            if values:
                self.figures[name] = {
                    f"p{share}": round(1000 * percentile(values, share), 2)
                    for share in (50, 95, 99)
                }


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` percent of `values` are not above; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Return the median of the slopes between all pairs of points (Theil and Sen)."""
    slopes = [
        (values[later] - values[earlier]) / (times[later] - times[earlier])
        for earlier in range(len(times))
        for later in range(earlier + 1, len(times))
        if times[later] > times[earlier]
    ]
    return median(slopes) if slopes else 0.0


def slowness() -> float:
    """Return how many times slower than its best this machine is now, at least 1.

    Time limits are multiplied by it, so that a busy machine does not fail a good server.
    """
    times = []
    for _ in range(20):
        began = time.perf_counter()
        sum(range(200_000))
        times.append(time.perf_counter() - began)
    return max(1.0, percentile(times, 90) / min(times), min(times) / 0.006)
