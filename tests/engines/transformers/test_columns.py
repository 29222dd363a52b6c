"""Columns: every row ends at the same column and keeps its own tokens through every move."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from mooring.engines.transformers.columns import Columns

HEADS, DIM, LAYERS = 2, 3, 2


@pytest.fixture(scope="module", autouse=True)
def new_memory_is_no_number() -> Iterator[None]:
    """Memory that nobody has written is not zero by chance: torch fills it with NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def prefilled(tokens: list[float]) -> Any:
    cache = DynamicCache()
    values = torch.tensor(tokens)[None, None, :, None].expand(1, HEADS, len(tokens), DIM)
    for layer in range(LAYERS):
        cache.update(values + layer, -values - layer, layer)
    return cache


def step(columns: Columns, tokens: list[float]) -> list[torch.Tensor]:
    """Give each row its token; return the keys `[rows, seen]` of all layers with the mask."""
    columns.make_room()
    mask, positions = columns.show(range(columns.count))
    new = torch.tensor(tokens)[:, None, None, None].expand(-1, HEADS, 1, DIM)
    seen = []
    for layer in range(LAYERS):
        assert columns.get_mask_sizes(1, layer) == (mask.shape[1], 0)
        keys, values = columns.update(new + layer, -new - layer, layer)
        assert torch.equal(keys, -values)
        assert keys.isfinite().all()
        assert columns.get_seq_length(layer) == mask.shape[1]
        seen.append(keys[:, 0, :, 0] - layer)
    assert torch.equal(positions, mask.sum(-1, keepdim=True) - 1)
    assert mask[:, 0].any()
    columns.advance()
    return [*seen, mask]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(1, 150)),
        st.tuples(st.just("leave"), st.integers(0, 100)),
        st.tuples(st.just("step"), st.integers(1, 70)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(ACTIONS, st.integers(200, 700))
def test_rows_keep_their_tokens(actions: list[tuple[str, int]], most_tokens: int) -> None:
    columns = Columns(prefilled([0.0]), most_tokens)
    rows: list[list[float]] = []
    numbers = iter(range(1, 10**6))
    for action, amount in actions:
        if action == "join":
            if columns.fits(len(rows) + 1, max(columns.width, amount) + 1):
                tokens = [float(next(numbers)) for _ in range(amount)]
                columns.join(prefilled(tokens), amount)
                rows.append(tokens)
        elif action == "leave" and rows:
            columns.leave(amount % len(rows))
            last = rows.pop()
            if amount % (len(rows) + 1) < len(rows):
                rows[amount % (len(rows) + 1)] = last
        elif action == "step":
            for _ in range(amount if rows else 0):
                if columns.fits(len(rows), columns.width + 1):
                    for row in rows:
                        row.append(float(next(numbers)))
                    *layers, mask = step(columns, [row[-1] for row in rows])
                    for keys in layers:
                        for own, shown, row in zip(keys, mask, rows, strict=True):
                            assert own[shown.bool()].tolist() == row
        assert columns.count == len(rows)
        assert columns.width == max(map(len, rows), default=0)
        capacity, _, most_columns, _ = columns.layers[0].keys.shape
        assert capacity * most_columns <= most_tokens


def test_not_a_number_does_not_outlive_its_row() -> None:
    columns = Columns(prefilled([0.0]), 1000)
    columns.join(prefilled([3.0] * 40), 40)
    columns.join(prefilled([float("nan")] * 50), 50)
    columns.leave(1)
    columns.join(prefilled([1.0, 2.0]), 2)
    *layers, _ = step(columns, [4.0, 5.0])
    assert all(keys.isfinite().all() for keys in layers)


def test_a_pass_may_see_one_row_only() -> None:
    columns = Columns(prefilled([0.0]), 1000)
    for tokens in ([1.0] * 5, [2.0] * 3):
        columns.join(prefilled(tokens), len(tokens))
    columns.make_room()
    mask, positions = columns.show(range(1, 2))
    assert (mask.tolist(), positions.tolist()) == ([[1, 1, 1, 1]], [[3]])
    new = torch.full((1, HEADS, 1, DIM), 7.0)
    keys, _ = columns.update(new, new, 0)
    assert keys[0, 0, :, 0].tolist() == [2.0, 2.0, 2.0, 7.0]


def test_clearing_gives_the_memory_back() -> None:
    columns = Columns(prefilled([0.0]), 1000)
    columns.join(prefilled([1.0] * 5), 5)
    columns.clear()
    assert columns.count == 0
    assert columns.layers[0].keys.numel() == 0
    columns.join(prefilled([2.0, 3.0]), 2)
    assert step(columns, [4.0])[0].tolist() == [[2.0, 3.0, 4.0]]
