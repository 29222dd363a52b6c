"""What becomes of each request when its child dies, is told to stop, or goes on."""

from typing import Any

import pytest

from mooring.engines.contract import Load
from mooring.engines.process.ledger import Ledger
from mooring.errors import EngineStopped, RequestFailed
from mooring.generation import (
    Event,
    Failed,
    Finished,
    GenerationRequest,
    SamplingParams,
    Started,
    Token,
)


def add(ledger: Ledger, id: str, *, max_tokens: int = 3, **sampling: Any) -> list[Event]:
    """Add a request with a prompt of four tokens, and return its events to come."""
    events: list[Event] = []
    params = SamplingParams(temperature=1.0).update(sampling)
    ledger.add(GenerationRequest(id, (1, 2, 3, 4), params), events.append, max_tokens)
    return events


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_a_complete_answer_whose_end_was_lost_ends_by_length(ledger: Ledger) -> None:
    events = add(ledger, "a", seed=1)
    for token_id in (7, 8, 9):
        ledger.record("a", Token(token_id))
    ledger.survive("died")
    assert events == [Token(7), Token(8), Token(9), Finished("length")]
    assert ledger.remainders() == []


def test_survivors_go_on_where_they_were_in_order(ledger: Ledger) -> None:
    unseeded, _, cancelled = add(ledger, "a"), add(ledger, "b", seed=1), add(ledger, "c")
    add(ledger, "d")
    for id in "abc":
        ledger.record(id, Token(7))
    ledger.cancel("c")
    ledger.survive("died")
    assert [(r.id, r.generated_ids) for r in ledger.remainders()] == [("b", (7,)), ("d", ())]
    assert cancelled == [Token(7), Finished("cancelled")]
    assert isinstance(unseeded[-1], Failed)
    assert type(unseeded[-1].error) is EngineStopped
    assert unseeded[-1].error.message == "died"


def test_what_is_cancelled_gets_no_more_tokens_and_one_end(ledger: Ledger) -> None:
    events = add(ledger, "a")
    assert ledger.cancel("a")
    assert ledger.record("a", Token(7))
    assert ledger.record("a", Finished("length"))
    assert ledger.record("a", Finished("length"))
    assert events == [Finished("cancelled")]
    assert not ledger.cancel("a")


def test_settling_ends_what_was_cancelled_and_nothing_else(ledger: Ledger) -> None:
    cancelled, other = add(ledger, "a"), add(ledger, "b")
    ledger.cancel("a")
    assert [request.id for request in ledger.remainders()] == ["b"]
    ledger.settle()
    assert (cancelled, other) == ([Finished("cancelled")], [])


def test_counts_what_runs_waits_and_is_unread(ledger: Ledger) -> None:
    for id in "abcd":
        add(ledger, id)
    ledger.record("a", Token(7))
    ledger.cancel("d")
    assert ledger.load(5) == Load(1, 2, 5)
    assert [ledger.unread_tokens(places) for places in (0, 1, 2, 3)] == [0, 0, 4, 8]
    ledger.remainders()
    assert ledger.unread_tokens(1) == 4


def test_the_start_is_told_once_and_counts_in_the_present_child(ledger: Ledger) -> None:
    events = add(ledger, "a", seed=1)
    add(ledger, "b")
    ledger.record("a", Started(2))
    assert ledger.load(0) == Load(1, 1, 0)
    assert ledger.unread_tokens(2) == 8
    ledger.survive("died")
    ledger.remainders()
    assert ledger.load(0) == Load(0, 2, 0)
    ledger.record("a", Started(4))
    assert ledger.load(0) == Load(1, 1, 0)
    assert events == [Started(2)]


def test_what_is_cancelled_is_not_told_to_start(ledger: Ledger) -> None:
    events = add(ledger, "a")
    ledger.cancel("a")
    assert ledger.record("a", Started())
    assert events == []


def test_an_id_in_use_is_refused(ledger: Ledger) -> None:
    add(ledger, "a")
    with pytest.raises(RequestFailed, match="Given twice: a"):
        add(ledger, "a")


def test_a_receiver_that_raises_is_dropped(ledger: Ledger) -> None:
    def receive(event: Event) -> None:
        raise RuntimeError("receiver is gone")

    ledger.add(GenerationRequest("a", (1,), SamplingParams()), receive, 3)
    assert not ledger.record("a", Token(7))
    assert ledger.load(0) == Load(0, 0, 0)
