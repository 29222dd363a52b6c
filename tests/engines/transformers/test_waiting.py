"""Short prompts go first, but nobody is overtaken for ever."""

from types import SimpleNamespace
from typing import Any

from mooring.engines.transformers.waiting import Waiting


def row(number: int, tokens: int) -> Any:
    return SimpleNamespace(number=number, ids=[0] * tokens, sequence=SimpleNamespace(ended=False))


def order(waiting: Waiting) -> list[int]:
    taken = []
    while waiting:
        assert waiting.first is not None
        taken.append(waiting.take().number)
    return taken


def test_the_shortest_of_those_that_came_together_is_first() -> None:
    waiting = Waiting()
    for number, tokens in enumerate((30, 5, 200, 5)):
        waiting.add(row(number, tokens))
    assert order(waiting) == [1, 3, 0, 2]


def test_a_long_one_is_overtaken_only_while_less_is_read_than_it_has() -> None:
    waiting = Waiting()
    waiting.add(row(0, 100))
    waiting.read(80)
    waiting.add(row(1, 10))
    waiting.add(row(2, 30))
    waiting.read(20)
    waiting.add(row(3, 1))
    assert order(waiting) == [1, 0, 3, 2]


def test_what_was_put_back_comes_first_in_its_old_order() -> None:
    waiting = Waiting()
    waiting.add(row(5, 1))
    waiting.put_back(row(4, 300))
    waiting.put_back(row(2, 200))
    assert order(waiting) == [2, 4, 5]


def test_forgets_what_has_ended() -> None:
    waiting = Waiting()
    rows = [row(number, 10) for number in range(4)]
    waiting.put_back(rows[0])
    waiting.put_back(rows[1])
    waiting.add(rows[2])
    waiting.add(rows[3])
    rows[1].sequence.ended = rows[2].sequence.ended = True
    waiting.forget_ended()
    assert order(waiting) == [0, 3]
    assert waiting.first is None
