"""Nobody waits much longer than others like them, whoever floods and however long their prompts."""

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mooring.generation import GenerationRequest, SamplingParams
from mooring.service.admission import Admission, Bounds
from mooring.service.fair_queue import FairQueue, Waiting


class Clock:
    """Stands still unless it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def waiting(name: str, caller: str = "", tokens: int = 10, clock: Clock | None = None) -> Waiting:
    admission = Admission(Bounds(1, 1, 10**9), clock=clock or Clock())
    place = admission.admit(1, caller=caller).take()
    return Waiting(GenerationRequest(name, (1,) * tokens, SamplingParams()), print, place)


def names(queue: FairQueue) -> list[str]:
    return [queue.pop().request.id for _ in range(len(queue))]


def test_of_one_caller_with_prompts_of_one_length_the_first_goes_first() -> None:
    queue = FairQueue()
    for name in "abcd":
        queue.push(waiting(name))
    removed = queue.remove("b")
    assert removed is not None
    assert removed.request.id == "b"
    assert queue.remove("b") is None
    assert [one.request.id for one in queue] == ["a", "c", "d"]
    assert names(queue) == ["a", "c", "d"]


def test_callers_take_turns() -> None:
    queue = FairQueue()
    for name in ("a1", "a2", "a3", "b1", "c1", "c2"):
        queue.push(waiting(name, name[0]))
    assert names(queue) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_who_comes_back_does_not_catch_up() -> None:
    queue = FairQueue()
    for number in range(6):
        queue.push(waiting(f"a{number}", "a"))
    assert [queue.pop().request.id for _ in range(3)] == ["a0", "a1", "a2"]
    for number in range(6):
        queue.push(waiting(f"b{number}", "b"))
    assert names(queue)[:4] == ["b0", "a3", "b1", "a4"]


def test_what_was_generated_counts_twice() -> None:
    queue = FairQueue()
    queue.push(waiting("a0", "a"))
    queue.charge_generated(queue.pop(), 20)
    for name in ("a1", "b1", "b2", "b3", "b4", "b5", "b6"):
        queue.push(waiting(name, name[0]))
    assert names(queue) == ["b1", "b2", "b3", "b4", "b5", "a1", "b6"]


def test_short_prompts_wait_a_shorter_time_in_proportion() -> None:
    clock = Clock()
    queue = FairQueue(clock)
    for name, tokens, at in (("long", 2000, 0), ("later", 2000, 1), ("short", 20, 4)):
        clock.now = at
        queue.push(waiting(name, tokens=tokens, clock=clock))
    clock.now = 7.9  # 7.9 / 4 against 3.9 / 2
    assert queue.pop().request.id == "long"
    clock.now = 8.0  # 7.0 / 4 against 4.0 / 2
    assert names(queue) == ["short", "later"]


@dataclass
class Simulated:
    """A server with `places`, whose clock jumps from event to event.

    A request of `tokens` takes `tokens` + 10 seconds of a place. Each caller sends the next request
    as soon as it has an answer, on each of its connections.
    """

    places: int
    connections: dict[tuple[str, int], int]
    clock: Clock = field(default_factory=Clock)
    waits: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))

    def run(self, requests: int) -> None:
        queue = FairQueue(self.clock)
        to_send = deque(self._opening())
        running: list[tuple[float, int, Waiting]] = []
        for number in range(requests):
            while to_send:
                queue.push(to_send.popleft())
            now = self.clock.now
            while len(running) < self.places and len(queue):
                one = queue.pop()
                self.waits[one.caller, one.tokens].append(now - one.since)
                heapq.heappush(running, (now + one.tokens + 10, number * 1000 + len(running), one))
            self.clock.now, _, ended = heapq.heappop(running)
            queue.charge_generated(ended, 5)
            to_send.append(waiting(f"r{number}", ended.caller, ended.tokens, self.clock))

    def _opening(self) -> Iterable[Waiting]:
        for (caller, tokens), count in self.connections.items():
            for number in range(count):
                yield waiting(f"{caller}-{tokens}-{number}", caller, tokens, self.clock)


@settings(max_examples=30, deadline=None)
@given(
    places=st.integers(1, 8),
    connections=st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.sampled_from([4, 40, 400])),
        st.integers(1, 20),
        min_size=1,
        max_size=6,
    ),
)
def test_nobody_waits_three_times_as_long_as_others_like_them_beside_one_turn_of_each(
    places: int, connections: dict[tuple[str, int], int]
) -> None:
    simulated = Simulated(places, connections)
    simulated.run(400)
    longest = max(tokens for _, tokens in connections) + 10
    for kind, waits in simulated.waits.items():
        settled = waits[connections[kind] :]
        if settled:
            assert max(settled) <= 3 * mean(settled) + len(connections) * longest


@pytest.mark.parametrize("flood", [10, 100, 1000])
def test_how_long_one_waits_does_not_depend_on_who_floods(flood: int) -> None:
    simulated = Simulated(4, {("flood", 400): flood, ("calm", 40): 1})
    simulated.run(2 * flood + 200)
    assert max(simulated.waits["calm", 40]) <= 410
    assert len(simulated.waits["calm", 40]) > 20


@pytest.mark.parametrize("flood", [20, 100])
def test_short_prompts_of_the_same_caller_wait_less_than_a_flood_of_long_ones(flood: int) -> None:
    simulated = Simulated(4, {("one", 400): flood, ("one", 4): 2})
    simulated.run(4 * flood + 200)
    long, short = simulated.waits["one", 400][flood:], simulated.waits["one", 4][2:]
    # Classes 3 and 1, and one turn of a long one.
    assert max(short) <= max(long) * 2 / 4 + 410
    assert 0.4 * mean(long) <= mean(short) <= 0.5 * mean(long) + 410
