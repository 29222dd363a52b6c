import pytest

from mooring.bench.figures import Spread, figures_of, percentile, spread
from mooring.bench.target import Answer


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(n) for n in range(1, 101)]
    assert spread(values[::-1]) == Spread(50.0, 95.0, 99.0)
    assert percentile([7.0], 99) == 7.0
    assert percentile([1.0, 2.0], 50) == 1.0


def test_a_stream_alone_is_timed_between_its_tokens() -> None:
    runs = [[Answer(0.0, (2.0, 2.5, 3.0), 3)], [Answer(10.0, (11.0, 12.0, 13.0), 3)]]
    figures = figures_of(runs)
    assert figures.tokens_per_second == pytest.approx((2.0 + 1.0) / 2)
    assert (figures.slowest, figures.fastest) == (1.0, 2.0)
    assert figures.first_token == Spread(1.0, 2.0, 2.0)
    assert figures.inter_token == Spread(0.5, 1.0, 1.0)
    assert (figures.runs, figures.output_tokens) == (2, 3)


def test_several_are_timed_from_the_first_request_to_the_last_token() -> None:
    run = [Answer(1.0, (2.0, 5.0), 10), Answer(1.5, (4.0,), 6)]
    figures = figures_of([run])
    assert figures.tokens_per_second == pytest.approx(16 / 4.0)
    assert figures.inter_token == Spread(3.0, 3.0, 3.0)


def test_one_token_has_no_speed() -> None:
    figures = figures_of([[Answer(0.0, (0.5,), 1)]])
    assert figures.tokens_per_second is None
    assert figures.slowest is None
    assert figures.inter_token is None
    assert figures.first_token.p50 == 0.5
