"""The cache is planned in tokens: what was asked for, or half of what is free."""

import pytest
import torch
from transformers import DynamicCache

from mooring.engines.transformers import budget
from mooring.engines.transformers.budget import bytes_per_token, plan_tokens
from mooring.errors import InvalidParameter


def test_counts_keys_and_values_of_all_layers() -> None:
    cache = DynamicCache()
    cache.update(torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 5, 4), 0)
    cache.update(torch.zeros(1, 3, 5, 8), torch.zeros(1, 3, 5, 8), 1)
    assert bytes_per_token(cache) == 4 * (2 * 8 + 2 * 4 + 2 * 3 * 8)


def test_takes_what_was_asked_for_but_not_more_than_useful() -> None:
    assert plan_tokens(1000, 10, 500, "cpu") == 100
    assert plan_tokens(1009, 10, 500, "cpu") == 100
    assert plan_tokens(10_000, 10, 500, "cpu") == 500


def test_takes_half_of_the_free_memory_by_default() -> None:
    gigabyte = 10**9
    tokens = plan_tokens(None, 1000, 10**12, "cpu")
    assert 0.05 * gigabyte < tokens * 1000 < 2000 * gigabyte
    assert plan_tokens(None, 1000, 64, "cpu") == 64


def test_what_a_container_may_use_is_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "read_memory", lambda: (10_000, 4_000))
    assert plan_tokens(None, 10, 500, "cpu") == 200


def test_refuses_less_than_two_tokens() -> None:
    with pytest.raises(InvalidParameter) as raised:
        plan_tokens(19, 10, 500, "cpu")
    assert raised.value.param == "cache_bytes"
    assert "must be >= 20, two tokens of this model. Given: 19." in raised.value.message
