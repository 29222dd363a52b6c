import pytest

from mooring.errors import InvalidInput, ServerBusy
from mooring.service.admission import Activity, Admission, Bounds


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def admission_of(running: int, waiting: int = 0, tokens: int = 100) -> Admission:
    return Admission(Bounds(running, waiting, tokens))


def test_places_come_back_when_call_and_engine_are_done() -> None:
    admission = admission_of(4)
    permit = admission.admit(3)
    places = [permit.take(), permit.take()]
    assert admission.activity == Activity(3, 4)
    permit.close()
    assert admission.activity == Activity(2, 4)
    for place in places:
        place.release()
    assert admission.activity == Activity(0, 4)


def test_places_released_while_the_call_lasts_stay_with_it() -> None:
    admission = admission_of(2)
    permit = admission.admit(2)
    places = [permit.take(), permit.take()]
    places[0].release()
    assert admission.activity == Activity(2, 2)
    places.append(permit.take())
    places[1].release()
    places[2].release()
    permit.close()
    permit.close()
    assert admission.activity == Activity(0, 2)


def test_more_than_the_limit_is_refused_whole() -> None:
    admission = admission_of(2, 2)
    admission.admit(3)
    with pytest.raises(ServerBusy, match=r"at most 4 sequences at once. Held: 3, asked for 2 more"):
        admission.admit(2)
    assert admission.activity == Activity(3, 4)


def test_more_than_there_can_ever_be_is_no_matter_of_time() -> None:
    admission = admission_of(2, 2)
    admission.admit(4)
    with pytest.raises(InvalidInput, match=r"at most 4 sequences, prompts times `n`\. Given: 5"):
        admission.admit(5)


def test_prompt_tokens_are_bounded_only_for_calls_that_wait() -> None:
    admission = admission_of(2, 4)
    running = [admission.admit(1, 90).take(90) for _ in range(2)]
    assert admission.activity.waiting_tokens == 180
    running[0].begin()
    running[0].begin()
    assert admission.activity.waiting_tokens == 90
    waiting = admission.admit(1, 10)
    with pytest.raises(ServerBusy, match=r"At most 100 prompt tokens .* Waiting: 100, asked for 1"):
        admission.admit(1, 1)
    waiting.close()
    admission.admit(1, 10)
    running[1].release()
    assert admission.activity.waiting_tokens == 10


@pytest.mark.parametrize(("held", "more", "seconds"), [(0.1, 1, 1), (12.0, 1, 6), (1e6, 4, 30)])
def test_who_is_refused_learns_how_long_places_are_held(
    held: float, more: int, seconds: int
) -> None:
    clock = Clock()
    admission = Admission(Bounds(2, 3, 100), clock=clock)
    for _ in range(200):
        permit = admission.admit(1)
        place = permit.take()
        permit.close()
        clock.now += held
        place.release()
    admission.admit(5)
    with pytest.raises(ServerBusy, match=f"Try again in {seconds} s") as busy:
        admission.admit(more)
    assert busy.value.retry_seconds == seconds
