import pytest

from mooring.errors import InvalidInput, ServerBusy
from mooring.service.admission import Activity, Admission


def test_places_come_back_when_call_and_engine_are_done() -> None:
    admission = Admission(4)
    permit = admission.admit(3)
    permit.take(2)
    assert admission.activity == Activity(3, 4)
    permit.close()
    assert admission.activity == Activity(2, 4)
    permit.release()
    permit.release()
    assert admission.activity == Activity(0, 4)


def test_places_released_while_the_call_lasts_stay_with_it() -> None:
    admission = Admission(2)
    permit = admission.admit(2)
    permit.take(2)
    permit.release()
    assert admission.activity == Activity(2, 2)
    permit.take(1)
    permit.release()
    permit.release()
    permit.close()
    permit.close()
    assert admission.activity == Activity(0, 2)


def test_more_than_the_limit_is_refused_whole() -> None:
    admission = Admission(4)
    admission.admit(3)
    with pytest.raises(ServerBusy, match=r"at most 4 sequences at once. Held: 3, asked for 2 more"):
        admission.admit(2)
    assert admission.activity == Activity(3, 4)


def test_more_than_there_can_ever_be_is_no_matter_of_time() -> None:
    admission = Admission(4)
    admission.admit(4)
    with pytest.raises(InvalidInput, match=r"at most 4 sequences, prompts times `n`\. Given: 5"):
        admission.admit(5)
