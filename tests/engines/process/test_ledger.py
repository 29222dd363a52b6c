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
    Likelihood,
    LogprobsWanted,
    PromptRead,
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
    ledger.survive("died", 4)
    assert events == [Token(7), Token(8), Token(9), Finished("length")]
    assert ledger.due() == []


def test_survivors_go_on_where_they_were_in_order(ledger: Ledger) -> None:
    unseeded, _, cancelled = add(ledger, "a"), add(ledger, "b", seed=1), add(ledger, "c")
    add(ledger, "d")
    assert ids(ledger.due()) == ["a", "b", "c", "d"]
    for id in "abc":
        ledger.record(id, Token(7))
    ledger.cancel("c")
    ledger.survive("died", 2)
    assert [(r.id, r.generated_ids) for r in ledger.due()] == [("b", (7,))]
    ledger.record("b", Finished("stop"))
    assert [(r.id, r.generated_ids) for r in ledger.due()] == [("d", ())]
    assert cancelled == [Token(7), Finished("cancelled")]
    assert isinstance(unseeded[-1], Failed)
    assert type(unseeded[-1].error) is EngineStopped
    assert unseeded[-1].error.message == "died"


def test_a_prompt_whose_logprobs_were_sent_is_not_told_again(ledger: Ledger) -> None:
    read = PromptRead((Likelihood(-1.0),))
    events: list[Event] = []
    for id, most in (("a", 3), ("b", 0), ("c", 0)):
        sampling = SamplingParams(temperature=0.0)
        wanted = LogprobsWanted(answer=1, prompt=2)
        ledger.add(GenerationRequest(id, (1, 2), sampling, logprobs=wanted), events.append, most)
    ledger.due()
    ledger.record("a", read)
    ledger.record("b", read)
    ledger.survive("died", 2)
    assert events == [read, read, Finished("length")]
    assert [(r.id, r.logprobs) for r in ledger.due()] == [("a", LogprobsWanted(answer=1))]
    ledger.record("a", Finished("length"))
    assert [(r.id, r.logprobs) for r in ledger.due()] == [("c", wanted)]


def test_what_is_cancelled_gets_no_more_tokens_and_one_end(ledger: Ledger) -> None:
    events = add(ledger, "a")
    ledger.due()
    assert ledger.cancel("a")
    assert ledger.record("a", Token(7))
    assert ledger.record("a", Finished("length"))
    assert ledger.record("a", Finished("length"))
    assert events == [Finished("cancelled")]
    assert not ledger.cancel("a")


def test_settling_ends_what_was_cancelled_and_nothing_else(ledger: Ledger) -> None:
    cancelled, other = add(ledger, "a"), add(ledger, "b")
    assert not ledger.cancel("a")
    assert ids(ledger.due()) == ["b"]
    assert ledger.cancel("b")
    ledger.settle()
    assert (cancelled, other) == ([Finished("cancelled")], [])
    ledger.let_go("b")
    ledger.let_go("b")
    assert other == [Finished("cancelled")]


def test_counts_what_runs_waits_and_is_unread(ledger: Ledger) -> None:
    for id in "abcd":
        add(ledger, id)
    assert ledger.unread_tokens(4) == 0
    ledger.due()
    ledger.record("a", Token(7))
    ledger.cancel("d")
    assert ledger.load(5) == Load(1, 2, 5)
    assert [ledger.unread_tokens(places) for places in (0, 1, 2, 3)] == [0, 0, 4, 8]
    ledger.start_over()
    ledger.due()
    assert ledger.unread_tokens(1) == 4


def test_the_start_is_told_once_and_counts_in_the_present_child(ledger: Ledger) -> None:
    events = add(ledger, "a", seed=1)
    add(ledger, "b")
    ledger.due()
    ledger.record("a", Started(2))
    assert ledger.load(0) == Load(1, 1, 0)
    assert ledger.unread_tokens(2) == 8
    ledger.survive("died", 2)
    ledger.due()
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


def ids(requests: list[GenerationRequest]) -> list[str]:
    return [request.id for request in requests]


def test_after_a_death_what_ran_begins_again_one_by_one_and_then_the_rest(ledger: Ledger) -> None:
    for id in "abcd":
        add(ledger, id, max_tokens=99, seed=1)
    ledger.due()
    ledger.survive("died", 2)
    assert ids(ledger.due()) == ["a"]
    add(ledger, "e")
    assert ids(ledger.due()) == []
    for token_id in range(4):
        assert not ledger.overdue
        ledger.record("a", Token(token_id))
    assert ledger.overdue
    assert ids(ledger.due()) == ["b"]
    assert not ledger.overdue
    ledger.record("b", Finished("stop"))
    assert ids(ledger.due()) == ["c", "d", "e"]
    assert not ledger.overdue


def test_what_kills_a_second_child_while_it_alone_is_in_doubt_fails(ledger: Ledger) -> None:
    first, second, third = (add(ledger, id, max_tokens=99, seed=1) for id in "abc")
    ledger.due()
    assert not ledger.explains
    ledger.survive("died", 3)
    ledger.due()
    for token_id in range(4):
        ledger.record("a", Token(token_id))
    ledger.due()
    assert ledger.explains
    ledger.survive("died", 3)
    assert (len(first), third) == (4, [])
    (end,) = second
    assert isinstance(end, Failed)
    assert type(end.error) is RequestFailed
    assert end.error.message.startswith("The engine died 2 times while it generated this answer")
    assert [(r.id, r.generated_ids) for r in ledger.due()] == [("a", (0, 1, 2, 3))]
    for token_id in range(4):
        ledger.record("a", Token(token_id))
    assert ids(ledger.due()) == ["c"]


def test_a_death_while_nothing_is_in_doubt_convicts_nobody(ledger: Ledger) -> None:
    events = add(ledger, "a", max_tokens=99, seed=1)
    for _ in range(3):
        ledger.due()
        for token_id in range(4):
            ledger.record("a", Token(token_id))
        assert not ledger.explains
        ledger.survive("died", 1)
    assert len(events) == 12


def test_what_is_cancelled_in_doubt_holds_nobody_up(ledger: Ledger) -> None:
    for id in "abc":
        add(ledger, id, seed=1)
    ledger.due()
    ledger.survive("died", 2)
    assert ids(ledger.due()) == ["a"]
    assert not ledger.cancel("b")
    assert ledger.cancel("a")
    ledger.settle()
    ledger.record("a", Finished("cancelled"))
    assert ledger.overdue
    assert ids(ledger.due()) == ["c"]


def test_a_receiver_that_raises_in_doubt_holds_nobody_up(ledger: Ledger) -> None:
    def receive(event: Event) -> None:
        raise RuntimeError("receiver is gone")

    ledger.add(GenerationRequest("a", (1,), SamplingParams()), receive, 3)
    add(ledger, "b")
    ledger.due()
    ledger.survive("died", 1)
    ledger.due()
    assert not ledger.record("a", Token(7))
    assert ledger.overdue
    assert ids(ledger.due()) == ["b"]
