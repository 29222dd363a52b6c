"""What was read once is copied where a prompt begins with it, and only there."""

from collections.abc import Callable

import pytest

from mooring.engines.transformers import continuous
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.prefixes import BLOCK_TOKENS
from mooring.generation import Failed, Finished, Started, Token
from tests.engines.transformers.rows import Ask, Bench, tokens_of, watch
from tests.engines.transformers.test_families import generate_alone


def test_a_shared_beginning_is_read_once_in_each_scope(
    monkeypatch: pytest.MonkeyPatch, loaded_of: Callable[[str], LoadedModel]
) -> None:
    bench = Bench(loaded_of("llama"), 2000, keeps=True)
    shapes = watch(monkeypatch, loaded_of("llama").model)
    asks = [
        Ask(3, 1, False, 0, None, shared=45),
        Ask(2, 1, False, 0, None, shared=45),
        Ask(1, 1, False, 1, None, shared=45, scope="own"),
        Ask(2, 1, False, 2, None, shared=45, scope="own"),
        Ask(5, 1, False, 3, None),
    ]
    ends = [events[-1] for events in bench.run(asks)]
    assert [length for _, length in shapes] == [45 + 8, 45 + 17 - 32, 45 + 3, 45 + 8 - 32, 40]
    assert ends == [Finished("length", cached) for cached in (32, 0, 0, 32, 0)]


def test_a_conversation_goes_on_where_it_ended(
    monkeypatch: pytest.MonkeyPatch, loaded_of: Callable[[str], LoadedModel]
) -> None:
    loaded = loaded_of("llama")
    bench = Bench(loaded, 2000, keeps=True)
    first = Ask(5, 26, False, 0, None)
    [events] = bench.run([first])
    spoken = (*first.prompt_ids, *tokens_of(events))
    assert len(spoken) == 2 * BLOCK_TOKENS + 2
    monkeypatch.setattr(Ask, "prompt_ids", (*spoken, 7, 8, 9))
    shapes = watch(monkeypatch, loaded.model)
    [events] = bench.run([Ask(0, 1, False, bench.steps, None)])
    assert shapes == [(1, 2 + 3)]
    assert events[-1] == Finished("length", 2 * BLOCK_TOKENS)
    monkeypatch.undo()
    assert tokens_of(events) == generate_alone(loaded.model, ([*spoken, 7, 8, 9], 1))[0]


def test_what_a_failed_request_has_read_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, loaded_of: Callable[[str], LoadedModel]
) -> None:
    bench = Bench(loaded_of("llama"), 2000, keeps=True)
    chosen = iter([5, 6, None])
    monkeypatch.setattr(continuous, "choose_tokens", lambda *_: [next(chosen)])
    [failed] = bench.run([Ask(2, 9, False, 0, None, shared=45)])
    assert [type(event) for event in failed] == [Started, Token, Token, Failed]
    assert bench.prefixes.tokens == BLOCK_TOKENS  # its prompt, which was read well
    bench.prefixes.clear()
    monkeypatch.setattr(continuous, "choose_tokens", lambda *_: [None])
    bench.run([Ask(2, 9, False, bench.steps, None, shared=45)])
    assert bench.prefixes.tokens == 0
