"""When a child counts as hung: by its steps, not by its being there."""

import pytest

from mooring.engines.process.watch import Deaths, Watch, restart_delay


class Watched:
    """A watch with ten seconds of patience, looked at every half second of its own clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.watch = Watch(10, clock=lambda: self.now)

    def complaint_after(
        self, seconds: float, steps: int | None = None, *, busy: bool = True, unread_tokens: int = 0
    ) -> str | None:
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            if steps is not None:
                self.watch.heard(steps, busy=busy)
            complaint = self.watch.complaint(unread_tokens)
            if complaint is not None:
                return complaint
        return None


@pytest.fixture
def working() -> Watched:
    watched = Watched()
    watched.watch.opened()
    watched.watch.heard(7, busy=True)
    return watched


def test_silence_is_a_hang(working: Watched) -> None:
    assert working.complaint_after(10) is None
    assert working.complaint_after(0.5) == "it said nothing for 10 s"


def test_work_without_a_step_is_a_hang_though_the_process_lives(working: Watched) -> None:
    assert working.complaint_after(10, 7) is None
    assert working.complaint_after(0.5, 7) == "it made no step for 10 s"


def test_steps_and_idleness_are_no_hang(working: Watched) -> None:
    for step in range(8, 20):
        assert working.complaint_after(9, step) is None
    assert working.complaint_after(500, 20, busy=False) is None


def test_unread_prompts_take_a_tenth_of_a_second_per_token(working: Watched) -> None:
    assert working.complaint_after(60, 7, unread_tokens=500) is None
    assert working.complaint_after(1, 7, unread_tokens=500) is not None


def test_loading_and_the_first_step_have_ten_times_as_long() -> None:
    watched = Watched()
    assert watched.complaint_after(100) is None
    assert watched.complaint_after(1) == "it said nothing for 100 s"
    watched = Watched()
    watched.watch.opened()
    assert watched.complaint_after(100, 0) is None
    assert watched.complaint_after(1, 0) == "it made no step for 100 s"


def test_time_in_which_the_parent_was_stopped_does_not_count(working: Watched) -> None:
    working.now += 3600
    assert working.complaint_after(0.5) is None
    assert working.complaint_after(11) == "it said nothing for 10 s"


@pytest.mark.parametrize(("hang", "heartbeat"), [(10, 1.0), (100, 1.0), (2, 0.4)])
def test_heartbeats_come_often_enough(hang: float, heartbeat: float) -> None:
    assert Watch(hang).heartbeat_seconds == heartbeat


def test_deaths_count_within_a_minute_of_work_and_loading_is_no_work() -> None:
    deaths = Deaths()
    assert [deaths.note(worked) for worked in (500, 29, 30)] == [1, 2, 3]
    assert [deaths.note(worked) for worked in (60, 59, 0, 0)] == [1, 2, 3, 4]


def test_deaths_that_are_explained_do_not_count() -> None:
    deaths = Deaths()
    assert [deaths.note(1.0), deaths.note(1.0, counts=False), deaths.note(1.0)] == [1, 1, 2]
    assert restart_delay(0) == restart_delay(1)


def test_restarts_wait_longer_and_longer() -> None:
    assert [restart_delay(deaths) for deaths in (1, 2, 3, 4)] == [0.1, 0.5, 2.0, 2.0]
