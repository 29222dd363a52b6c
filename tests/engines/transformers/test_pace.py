"""Beside a step about as long is read as three of them take, in pieces worth their while."""

from mooring.engines.transformers.pace import Pace


def known(step_seconds: float, token_seconds: float) -> Pace:
    pace = Pace()
    pace.passed(32, 0, step_seconds)
    pace.passed(0, 512, 512 * token_seconds)
    return pace


def test_reads_for_as_long_as_three_steps_take() -> None:
    assert known(step_seconds=0.2, token_seconds=0.003).budget(32) == 200


def test_reads_at_full_speed_where_nobody_waits() -> None:
    assert known(step_seconds=0.2, token_seconds=0.003).budget(0) == 512


def test_a_piece_is_never_so_small_that_it_is_dear() -> None:
    assert known(step_seconds=0.05, token_seconds=0.003).budget(1) == 128


def test_a_piece_is_never_larger_than_makes_it_cheaper() -> None:
    assert known(step_seconds=0.2, token_seconds=0.001).budget(1) == 512


def test_begins_small_while_nothing_is_known() -> None:
    pace = Pace()
    assert pace.budget(1) == 128
    pace.passed(0, 512, 1.5)
    assert pace.budget(1) == 128


def test_what_rows_take_in_the_same_pass_is_not_counted_as_reading() -> None:
    pace = known(step_seconds=0.2, token_seconds=0.003)
    for _ in range(40):
        pace.passed(8, 200, 0.2 + 200 * 0.002)
    assert pace.budget(8) in (299, 300)


def test_a_pass_that_is_no_longer_than_a_step_reads_for_nothing() -> None:
    pace = known(step_seconds=0.2, token_seconds=0.003)
    for _ in range(40):
        pace.passed(8, 128, 0.19)
    assert pace.budget(8) == 512


def test_learns_from_what_it_sees_and_little_from_one_hiccup() -> None:
    pace = known(step_seconds=0.2, token_seconds=0.003)
    pace.passed(1, 0, 60.0)
    assert pace.budget(1) == 260
    for _ in range(40):
        pace.passed(1, 0, 0.1)
        pace.passed(1, 290, 0.1 + 290 * 0.001)
    assert 290 <= pace.budget(1) <= 310
