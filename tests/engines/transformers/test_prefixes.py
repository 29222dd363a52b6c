"""Prefixes: found is what was kept, for the same tokens in the same scope, within a bound."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mooring.engines.transformers.prefixes import BLOCK_TOKENS, NOTHING, Layers, PrefixStore

HEADS, DIM = 2, 3


def layers_of(ids: list[int]) -> Layers:
    """Keys and values that depend on all tokens so far, as a model's do."""
    sums = torch.tensor(ids, dtype=torch.float64).cumsum(0)[None, :, None]
    return [
        (sums.expand(HEADS, -1, DIM) + layer, sums.expand(HEADS, -1, 2) * 2) for layer in (0, 1)
    ]


# Few different tokens, changed at few places: prompts that begin alike and then differ.
PROMPTS = st.lists(st.tuples(st.integers(1, 150), st.sampled_from([0, 31, 32, 64, 149]))).map(
    lambda drawn: [[1 + (place >= change) for place in range(length)] for length, change in drawn]
)


@settings(max_examples=100, deadline=None)
@given(PROMPTS, st.integers(0, 300), st.integers(0, 300))
def test_finds_the_longest_beginning_it_holds(
    prompts: list[list[int]], most_tokens: int, later: int
) -> None:
    store = PrefixStore(most_tokens)
    kept: list[list[int]] = []
    for number, ids in enumerate(prompts):
        if number == 3:
            store.bound(later)
            most_tokens = later
        found = store.find("", ids)
        assert found.length % BLOCK_TOKENS == 0
        beginning = ids[: found.length]
        assert found.length == 0 or any(k[: found.length] == beginning for k in kept)
        expected = layers_of(beginning) if beginning else []
        for own, right in zip(found.layers, expected, strict=True):
            assert torch.equal(own[0], right[0])
            assert torch.equal(own[1], right[1])
        assert store.find("other", ids) == NOTHING
        store.keep("", ids, layers_of(ids))
        kept.append(ids)
        assert store.tokens <= most_tokens
        # The newest is there, as far as there is room.
        room = min(len(ids), most_tokens) // BLOCK_TOKENS * BLOCK_TOKENS
        assert store.find("", ids).length == room


def test_the_least_recently_used_goes_first_and_beginnings_last() -> None:
    store = PrefixStore(4 * BLOCK_TOKENS)
    one, two = [1] * 2 * BLOCK_TOKENS, [2] * 2 * BLOCK_TOKENS
    store.keep("", one, layers_of(one))
    store.keep("", two, layers_of(two))
    store.find("", one)
    store.keep("", [3] * BLOCK_TOKENS, layers_of([3] * BLOCK_TOKENS))
    assert store.find("", two).length == BLOCK_TOKENS
    assert store.find("", one).length == 2 * BLOCK_TOKENS
    store.bound(BLOCK_TOKENS)
    assert store.find("", one).length == BLOCK_TOKENS
    store.clear()
    assert (store.tokens, store.find("", one)) == (0, NOTHING)


def test_keeps_copies() -> None:
    store = PrefixStore(1000)
    ids = [5] * BLOCK_TOKENS
    layers = layers_of(ids)
    layers = [(keys.clone(), values.clone()) for keys, values in layers]
    store.keep("", ids, layers)
    found = store.find("", ids)
    layers[0][0].zero_()
    found.layers[0][1].zero_()
    again = store.find("", ids)
    assert torch.equal(again.layers[0][0], layers_of(ids)[0][0])
    assert torch.equal(again.layers[0][1], layers_of(ids)[0][1])
