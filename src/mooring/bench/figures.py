"""From the times of answers to the figures people compare."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mooring.bench.target import Answer

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Spread:
    """The 50th, 95th and 99th percentile of many times, in seconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What several runs of one scenario gave.

    `tokens_per_second` is the median of the runs, beside the slowest and the fastest. A stream
    alone is timed from its first token to its last, several at once from the first request to the
    last token. Times are of all requests of all runs; `inter_token` is None where no answer came
    in two pieces.
    """

    runs: int
    output_tokens: int
    tokens_per_second: float | None
    slowest: float | None
    fastest: float | None
    first_token: Spread
    inter_token: Spread | None


def figures_of(runs: Sequence[Sequence[Answer]]) -> Figures:
    """Return the figures of one scenario from the answers of each run."""
    speeds = sorted(speed for run in runs if (speed := _speed(run)) is not None)
    answers = [answer for run in runs for answer in run]
    gaps = [
        after - before
        for answer in answers
        for before, after in zip(answer.pieces, answer.pieces[1:], strict=False)
    ]
    return Figures(
        runs=len(runs),
        output_tokens=sum(answer.tokens for answer in runs[0]),
        tokens_per_second=statistics.median(speeds) if speeds else None,
        slowest=speeds[0] if speeds else None,
        fastest=speeds[-1] if speeds else None,
        first_token=spread([answer.pieces[0] - answer.asked for answer in answers]),
        inter_token=spread(gaps) if gaps else None,
    )


def spread(times: Sequence[float]) -> Spread:
    """Return the percentiles of at least one time."""
    ordered = sorted(times)
    return Spread(*(percentile(ordered, percent) for percent in PERCENTILES))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of them do not exceed."""
    rank = math.ceil(percent / 100 * len(ordered))
    return ordered[max(rank, 1) - 1]


def _speed(run: Sequence[Answer]) -> float | None:
    """Return tokens per second, None for a single token."""
    if len(run) == 1:
        answer = run[0]
        seconds = answer.pieces[-1] - answer.pieces[0]
        return (answer.tokens - 1) / seconds if answer.tokens > 1 and seconds > 0 else None
    seconds = max(a.pieces[-1] for a in run) - min(a.asked for a in run)
    return sum(a.tokens for a in run) / seconds
