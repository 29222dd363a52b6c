import pytest

from mooring.generation import SamplingParams
from mooring.observe.record import RequestRecord, SequenceRecord, Unmetered


def sequence(prompt_tokens: int = 3, n: int = 1) -> SequenceRecord:
    return SequenceRecord(prompt_tokens, SamplingParams(n=n), Unmetered(), sent_at=10.0)


def test_the_times_of_a_sequence_add_up() -> None:
    one = sequence()
    one.start(11.0)
    for now in (13.0, 14.0, 17.0):
        one.grow(now)
    one.finish("stop")
    assert (one.queue_seconds, one.prefill_seconds, one.decode_seconds) == (1.0, 2.0, 4.0)
    assert (one.first_token_seconds, one.inference_seconds, one.seconds) == (3.0, 6.0, 7.0)
    assert one.seconds_per_token == 2.0


def test_what_has_not_happened_has_no_time() -> None:
    one = sequence()
    one.finish("abort")
    one.finish("stop")
    assert one.end == "abort"
    assert one.queue_seconds is one.prefill_seconds is one.decode_seconds is None
    assert one.first_token_seconds is one.inference_seconds is one.seconds is None
    assert one.seconds_per_token is None


def test_a_prompt_counts_once_however_many_answers_it_has() -> None:
    assert RequestRecord().prompt_tokens is None
    assert RequestRecord().completion_tokens is None
    assert RequestRecord().cached_tokens is None
    request = RequestRecord()
    for tokens in (5, 5, 7, 7):
        one = sequence(tokens, n=2)
        one.tokens, one.cached_tokens = 2, tokens - 1
        request.sequences.append(one)
    assert (request.prompt_tokens, request.cached_tokens) == (12, 10)
    assert request.completion_tokens == 8


@pytest.mark.parametrize(("left", "status"), [(False, 200), (True, 499)])
def test_a_client_that_left_has_a_status_of_its_own(left: bool, status: int) -> None:
    assert RequestRecord(status=200, client_left=left).shown_status == status
