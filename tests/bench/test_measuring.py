from collections.abc import Sequence

import pytest

from mooring.bench.measuring import measure
from mooring.bench.target import Answer, Ask
from mooring.bench.work import Scenario, Work
from mooring.errors import BenchmarkFailed

SCENARIO = Scenario("two", (Work(16, 8), Work(24, 16)))


class Paced:
    """Answers at a pace of its own, on a clock that it turns itself."""

    def __init__(self, name: str, seconds: float, log: list[str], breaks: bool = False) -> None:
        self.name = name
        self._seconds = seconds
        self._log = log
        self._breaks = breaks

    def open(self) -> dict[str, str]:
        self._log.append(f"open {self.name}")
        return {"pace": f"{self._seconds}"}

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        self._log.append(f"{self.name} {sum(ask.output_tokens for ask in asks)}")
        if self._breaks:
            raise BenchmarkFailed("broken")
        return [
            Answer(
                0.0,
                tuple(self._seconds * (n + 1) for n in range(ask.output_tokens)),
                ask.output_tokens,
            )
            for ask in asks
        ]

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        self._log.append(f"close {self.name}")


def test_targets_take_turns_in_every_round_and_the_first_round_is_short_and_not_counted() -> None:
    log: list[str] = []
    steps: list[tuple[int, int]] = []
    report = measure(
        [Paced("a", 0.5, log), Paced("b", 1.0, log)],
        [SCENARIO],
        runs=2,
        progress=lambda text, done, total: steps.append((done, total)),
    )
    assert log == [
        "open a", "open b", "a 3", "b 3", "a 24", "b 24", "a 24", "b 24", "close b", "close a",
    ]  # fmt: skip
    assert steps == [(done, 8) for done in range(9)]
    a, b = report.measured
    assert a.figures["two"].runs == 2
    assert a.figures["two"].tokens_per_second == 24 / 8.0
    assert b.figures["two"].tokens_per_second == 24 / 16.0
    assert a.facts == {"pace": "0.5"}
    assert a.peak_memory_bytes is None


def test_ratios_are_of_the_first_to_each_other() -> None:
    log: list[str] = []
    report = measure([Paced("a", 0.5, log), Paced("b", 1.0, log)], [SCENARIO], runs=1)
    (ratio,) = report.ratios
    assert (ratio.scenario, ratio.against) == ("two", "b")
    assert ratio.tokens_per_second == 2.0
    assert ratio.first_token == 0.5
    assert report.to_dict()["ratios"] == [
        {"scenario": "two", "against": "b", "tokens_per_second": 2.0, "first_token": 0.5}
    ]
    assert report.metrics() == {
        "bench.two.tokens_per_second": 3.0,
        "bench.two.first_token_seconds.p50": 0.5,
        "bench.two.first_token_seconds.p95": 0.5,
        "bench.two.first_token_seconds.p99": 0.5,
        "bench.two.inter_token_seconds.p50": 0.5,
        "bench.two.inter_token_seconds.p95": 0.5,
        "bench.two.inter_token_seconds.p99": 0.5,
    }


def test_all_are_closed_when_one_fails() -> None:
    log: list[str] = []
    with pytest.raises(BenchmarkFailed, match="broken"):
        measure([Paced("a", 1.0, log), Paced("b", 1.0, log, breaks=True)], [SCENARIO])
    assert log[-2:] == ["close b", "close a"]
