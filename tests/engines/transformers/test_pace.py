"""Between two steps about as long is read as three of them take, in pieces worth their while."""

from mooring.engines.transformers.pace import Pace


class Clock:
    """A time that is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def read(pace: Pace, clock: Clock, rows: int, prompt: int, token_seconds: float) -> list[int]:
    """Return the pieces of a long prompt that are read in one turn."""
    turn = pace.turn(rows)
    pieces: list[int] = []
    while most := min(turn.most, prompt - sum(pieces)):
        clock.now += most * token_seconds
        pieces.append(most)
        turn.read(most)
    return pieces


def known(step_seconds: float, token_seconds: float) -> tuple[Pace, Clock]:
    clock = Clock()
    pace = Pace(clock)
    pace.stepped(step_seconds)
    pace.read(512, 512 * token_seconds)
    return pace, clock


def test_reads_for_as_long_as_three_steps_take() -> None:
    pace, clock = known(step_seconds=0.2, token_seconds=0.003)
    assert read(pace, clock, rows=32, prompt=4000, token_seconds=0.003) == [200]


def test_reads_at_full_speed_where_nobody_waits() -> None:
    pace, clock = known(step_seconds=0.2, token_seconds=0.003)
    assert read(pace, clock, rows=0, prompt=4000, token_seconds=0.003) == [512]


def test_a_piece_is_never_so_small_that_it_is_dear() -> None:
    pace, clock = known(step_seconds=0.05, token_seconds=0.003)
    assert read(pace, clock, rows=1, prompt=4000, token_seconds=0.003) == [128]


def test_begins_small_while_nothing_is_known() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.turn(1).most == 128
    assert read(pace, clock, rows=0, prompt=4000, token_seconds=0.003) == [512]


def test_short_prompts_share_a_turn_until_what_is_left_is_too_little() -> None:
    pace, clock = known(step_seconds=0.2, token_seconds=0.003)
    turn = pace.turn(8)
    for expected in (200, 130, 60):
        assert turn.most == expected
        clock.now += 70 * 0.003
        turn.read(70)
    assert turn.most == 0


def test_learns_from_what_it_sees_and_little_from_one_hiccup() -> None:
    pace, clock = known(step_seconds=0.2, token_seconds=0.003)
    pace.stepped(60.0)
    assert pace.turn(1).most == 260
    for _ in range(40):
        pace.stepped(0.1)
        read(pace, clock, rows=1, prompt=4000, token_seconds=0.001)
    assert 290 <= pace.turn(1).most <= 310
