"""Without memory for one more row or step, requests fail, and the others go on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mooring.engines.transformers.columns import Columns
from mooring.engines.transformers.loader import LoadedModel
from mooring.generation import Failed, Started, Token
from tests.engines.transformers.rows import Ask, Bench, tokens_of, watch


def test_no_memory_for_a_newcomer_fails_it_alone(
    monkeypatch: pytest.MonkeyPatch,
    loaded_of: Callable[[str], LoadedModel],
    alone_of: Callable[[str, Ask], list[int]],
) -> None:
    asks = [Ask(3, 20, True, 0, None), Ask(2, 20, True, 0, None), Ask(5, 20, True, 3, None)]
    expected = [alone_of("llama", ask) for ask in asks]
    join = Columns.join

    def refuse(self: Columns, prefilled: Any, length: int) -> int:
        if length == 40:
            self.layers[0].keys = self.layers[0].keys[:1]
            raise torch.OutOfMemoryError
        return join(self, prefilled, length)

    bench = Bench(loaded_of("llama"), 1000)
    monkeypatch.setattr(Columns, "join", refuse)
    shapes = watch(monkeypatch, loaded_of("llama").model)
    *others, refused = bench.run(asks)
    assert [length for _, length in shapes if length > 1] == [8, 17, 40, 17 + 4, 8 + 4]
    assert [tokens_of(events) for events in others] == expected[:2]
    assert [type(event) for event in refused] == [Started, Token, Failed]


def test_no_memory_for_a_step_fails_who_runs_and_not_who_comes(
    monkeypatch: pytest.MonkeyPatch,
    loaded_of: Callable[[str], LoadedModel],
    alone_of: Callable[[str, Ask], list[int]],
) -> None:
    asks = [Ask(3, 20, True, 0, None), Ask(2, 20, True, 0, None), Ask(5, 20, True, 9, None)]
    expected = alone_of("llama", asks[2])
    bench = Bench(loaded_of("llama"), 1000)
    make_room = Columns.make_room

    def refuse(self: Columns) -> int:
        if bench.steps == 5:
            raise torch.OutOfMemoryError
        return make_room(self)

    monkeypatch.setattr(Columns, "make_room", refuse)
    *failed, later = bench.run(asks)
    assert [(len(events), type(events[-1])) for events in failed] == [(7, Failed)] * 2
    assert tokens_of(later) == expected
