"""Sampling parameters: every bound, both sides, with the rule, the limit and the value."""

import math
from typing import Any

import pytest

from mooring.errors import InvalidParameter
from mooring.generation import SAMPLING_FIELDS, SamplingParams


def set_one(name: str, value: Any) -> Any:
    return getattr(SamplingParams().update({name: value}), name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 1), ("max_tokens", None), ("temperature", 0), ("temperature", 2),
        ("top_p", 1e-9), ("top_p", 1), ("top_k", 0), ("min_p", 0), ("min_p", 1),
        ("repetition_penalty", 10), ("presence_penalty", -2), ("frequency_penalty", 2),
        ("seed", -(2**63)), ("seed", 2**63 - 1), ("seed", None), ("n", 8), ("ignore_eos", True),
    ],
)  # fmt: skip
def test_values_at_their_bounds_are_taken(name: str, value: Any) -> None:
    assert set_one(name, value) == value


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("max_tokens", 0, "`max_tokens` must be >= 1 and <= 2147483647. Given: 0."),
        ("max_tokens", -1, "Given: -1."),
        ("max_tokens", 2**63, "Given: 9223372036854775808."),
        ("max_tokens", 5.0, "must be a whole number. Given: 5.0 (float)."),
        ("temperature", -1, "`temperature` must be >= 0 and <= 2. Given: -1."),
        ("temperature", 2.1, "Given: 2.1."),
        ("temperature", math.nan, "Given: nan."),
        ("temperature", math.inf, "Given: inf."),
        ("temperature", "0.5", "`temperature` must be a number. Given: 0.5 (str)."),
        ("temperature", True, "must be a number. Given: True (bool)."),
        ("top_p", 0, "`top_p` must be > 0 and <= 1. Given: 0."),
        ("top_k", -5, "`top_k` must be >= -1"),
        ("min_p", 2, "`min_p` must be >= 0 and <= 1. Given: 2."),
        ("repetition_penalty", 0, "must be > 0 and <= 10. Given: 0."),
        ("presence_penalty", 3, "must be >= -2 and <= 2. Given: 3."),
        ("n", 9, "`n` must be >= 1 and <= 8. Given: 9."),
        ("n", None, "`n` must be a whole number"),
        ("ignore_eos", 1, "`ignore_eos` must be true or false. Given: 1 (int)."),
        ("stop", [""], "Each `stop` string must have 1 to 64 characters. Given: 0."),
        ("stop", ["x" * 65], "Given: 65."),
        ("stop", list("abcde"), "`stop` takes at most 4 strings. Given: 5."),
        ("stop", [1], "`stop` must be a string or a list of strings."),
        ("logit_bias", {"x": 1}, "`logit_bias` keys must be token ids >= 0. Given: x."),
        ("logit_bias", {"-1": 1}, "Given: -1."),
        ("logit_bias", {"1": 101}, "`logit_bias` must be >= -100 and <= 100. Given: 101."),
        ("logit_bias", "[1]", "must be an object of token id to bias"),
        ("logit_bias", "{", "must be a JSON object of token id to bias"),
        ("logit_bias", {str(i): 0 for i in range(301)}, "takes at most 300 tokens. Given: 301."),
        ("heat", 1, "Unknown parameter `heat`. Known: max_tokens, min_tokens,"),
    ],
)  # fmt: skip
def test_values_beyond_are_refused_by_name(name: str, value: Any, said: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        set_one(name, value)
    assert said in caught.value.message
    assert caught.value.param == name


def test_an_error_never_carries_a_whole_text() -> None:
    with pytest.raises(InvalidParameter) as caught:
        set_one("temperature", "secret " * 1000)
    assert len(caught.value.message) < 120


def test_texts_become_their_values() -> None:
    assert set_one("stop", "x") == ("x",)
    assert set_one("stop", None) == ()
    assert set_one("logit_bias", '{"5": -100}') == ((5, -100.0),)
    assert set_one("logit_bias", "") == ()
    assert set_one("logit_bias", {7: 1}) == ((7, 1.0),)
    assert set_one("temperature", 1) == 1.0


def test_to_dict_and_back() -> None:
    values = {"temperature": 0.5, "stop": ["a"], "logit_bias": {"3": 1.0}, "seed": 7}
    params = SamplingParams().update(values)
    assert params.to_dict() | values == params.to_dict()
    assert SamplingParams().update(params.to_dict()) == params
    assert list(params.to_dict()) == [field.name for field in SAMPLING_FIELDS]


def test_tiny_temperatures_are_greedy() -> None:
    assert SamplingParams().update({"temperature": 1e-45}).greedy
    assert not SamplingParams().update({"temperature": 1e-4}).greedy
