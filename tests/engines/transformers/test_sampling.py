"""Every sampling parameter does exactly what it says, row by row."""

import math
from typing import Any

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from mooring.engines.transformers.sampling import RowSampler, choose_tokens
from mooring.generation import SamplingParams

CPU = torch.device("cpu")


def sampler(vocabulary_size: int, prompt: tuple[int, ...] = (0,), **values: Any) -> RowSampler:
    params = SamplingParams(temperature=0.0).update(values)
    return RowSampler(prompt, params, vocabulary_size, CPU)


def possible_tokens(logits: torch.Tensor, **values: Any) -> set[int]:
    """Draw with many seeds: every token kept by the filters turns up in flat enough logits."""
    drawn = [
        choose_tokens(logits[None], [sampler(len(logits), temperature=1.0, seed=seed, **values)])[0]
        for seed in range(600)
    ]
    assert None not in drawn
    return {token for token in drawn if token is not None}


def kept(scores: torch.Tensor) -> set[int]:
    return set(scores[0].isfinite().nonzero().flatten().tolist())


def random_logits(rows: int = 1, vocabulary_size: int = 12, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(rows, vocabulary_size, generator=generator) * spread


def test_greedy_takes_the_first_of_the_most_likely() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, -1.0]])
    assert choose_tokens(logits, [sampler(3), sampler(3)]) == [1, 0]


def test_temperature_below_the_threshold_is_greedy() -> None:
    logits = random_logits(vocabulary_size=50)
    assert choose_tokens(logits, [sampler(50, temperature=9e-6, seed=1)]) == [int(logits.argmax())]


def test_low_temperature_is_nearly_greedy_and_does_not_overflow() -> None:
    logits = random_logits(vocabulary_size=50) * 1e36
    assert choose_tokens(logits, [sampler(50, temperature=1e-5, seed=1)]) == [int(logits.argmax())]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(20))
def test_draws_at_its_uniform_number(temperature: float, seed: int) -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0]])
    generator = torch.Generator().manual_seed(seed)
    one = sampler(4, temperature=temperature, seed=seed)
    for _ in range(5):
        uniform = torch.rand((), generator=generator, dtype=torch.float64).item()
        weights = [math.exp(value / temperature) for value in (0.0, 1.0, -1.0, 2.0)]
        limits = [sum(weights[: i + 1]) / sum(weights) for i in range(4)]
        expected = next(i for i, limit in enumerate(limits) if uniform < limit)
        assert choose_tokens(logits, [one]) == [expected]


def test_frequencies_follow_the_probabilities() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.7]]))
    one = sampler(3, temperature=1.0, seed=5)
    drawn = [choose_tokens(logits, [one])[0] for _ in range(4000)]
    assert [drawn.count(token) / 4000 for token in range(3)] == pytest.approx(
        [0.1, 0.2, 0.7], abs=0.02
    )


def test_never_draws_the_impossible() -> None:
    logits = torch.full((1, 5), -math.inf)
    logits[0, 3] = 0.0
    drawn = [choose_tokens(logits, [sampler(5, temperature=1.0, seed=seed)]) for seed in range(50)]
    assert drawn == [[3]] * 50


@pytest.mark.parametrize("top_k", [1, 2, 5, 12, 100])
def test_top_k_keeps_what_transformers_keeps(top_k: int) -> None:
    logits = random_logits(spread=0.5)
    expected = kept(TopKLogitsWarper(top_k)(None, logits))
    assert possible_tokens(logits[0], top_k=top_k) == expected


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
def test_filters_in_a_large_vocabulary_keep_what_transformers_keeps(spread: float) -> None:
    logits = random_logits(vocabulary_size=5000, spread=spread)
    expected = logits
    for warper in (MinPLogitsWarper(0.001), TopKLogitsWarper(4000), TopPLogitsWarper(0.9)):
        expected = warper(None, expected)
    drawn = possible_tokens(logits[0], min_p=0.001, top_k=4000, top_p=0.9)
    assert drawn <= kept(expected)
    without_top_k = TopPLogitsWarper(0.6)(None, logits)
    assert possible_tokens(logits[0], top_p=0.6) <= kept(without_top_k)


def test_top_k_one_is_greedy() -> None:
    logits = random_logits(rows=30, vocabulary_size=40)
    samplers = [sampler(40, temperature=2.0, top_k=1, seed=row) for row in range(30)]
    assert choose_tokens(logits, samplers) == logits.argmax(-1).tolist()


@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.5, 0.8, 0.95, 1.0])
def test_top_p_keeps_what_transformers_keeps(top_p: float) -> None:
    logits = random_logits(spread=0.5)
    expected = kept(TopPLogitsWarper(top_p)(None, logits))
    assert possible_tokens(logits[0], top_p=top_p) == expected


def test_top_p_keeps_the_smallest_set_of_equals() -> None:
    assert possible_tokens(torch.zeros(10), top_p=0.35) == {0, 1, 2, 3}


def test_the_least_top_p_is_greedy() -> None:
    logits = random_logits(spread=0.1)
    assert possible_tokens(logits[0], top_p=1e-300) == {int(logits.argmax())}


def test_top_p_is_taken_of_what_top_k_left() -> None:
    logits = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.1]))
    assert possible_tokens(logits, top_k=2, top_p=0.55) == {0}
    assert possible_tokens(logits, top_p=0.55) == {0, 1}


@pytest.mark.parametrize("min_p", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_min_p_keeps_what_transformers_keeps(min_p: float) -> None:
    logits = random_logits(spread=0.5)
    expected = kept(MinPLogitsWarper(min_p)(None, logits)) if min_p else set(range(12))
    assert possible_tokens(logits[0], min_p=min_p) == expected


def test_logit_bias_forces_and_forbids() -> None:
    logits = torch.tensor([[5.0, 4.0, 3.0]])
    assert choose_tokens(logits, [sampler(3, logit_bias={2: 100})]) == [2]
    assert choose_tokens(logits, [sampler(3, logit_bias={0: -100})]) == [1]
    assert choose_tokens(logits, [sampler(3, logit_bias={2: 1.5})]) == [0]
    assert choose_tokens(logits, [sampler(3, logit_bias={2: 2.5})]) == [2]


def test_repetition_penalty_is_that_of_transformers() -> None:
    logits = random_logits(vocabulary_size=20)
    prompt, answer = (3, 7, 7), (11, 3)
    one = sampler(20, prompt, repetition_penalty=1.7)
    for token in answer:
        one.observe(token)
    seen = torch.tensor([prompt + answer])
    expected = RepetitionPenaltyLogitsProcessor(1.7)(seen, logits.clone())
    assert torch.equal(one.score(logits[0]), expected[0])


def test_presence_and_frequency_count_the_answer_only() -> None:
    logits = torch.tensor([[2.0, 1.9, 1.0]])
    one = sampler(3, (0, 0, 0), presence_penalty=0.25, frequency_penalty=0.5)
    chosen = [choose_tokens(logits, [one])[0] for _ in range(4)]
    # 2.0; then 1.25 < 1.9; then 1.25 > 1.15; then 0.75 < 1.15
    assert chosen == [0, 1, 0, 1]
    assert one.score(logits[0]).tolist() == pytest.approx([0.75, 0.65, 1.0])


def test_top_k_one_takes_the_first_of_equals() -> None:
    logits = torch.zeros(1, 50)
    assert choose_tokens(logits, [sampler(50, temperature=1.0, top_k=1)]) == [0]


def test_negative_penalties_invite() -> None:
    one = sampler(2, presence_penalty=-2.0)
    one.observe(1)
    assert choose_tokens(torch.tensor([[1.0, 0.0]]), [one]) == [1]


def test_bias_comes_before_penalties() -> None:
    one = sampler(2, (1,), logit_bias={1: 2.0}, repetition_penalty=2.0)
    assert one.score(torch.tensor([0.0, -1.0])).tolist() == [0.0, 0.5]


def test_same_seed_same_tokens_whoever_else_is_there() -> None:
    logits = random_logits(rows=4, vocabulary_size=60)
    alone, together = sampler(60, temperature=1.0, seed=9), sampler(60, temperature=1.0, seed=9)
    others = [
        sampler(60, temperature=1.5),
        sampler(60),
        sampler(60, temperature=0.7, top_p=0.9, seed=2),
    ]
    for _ in range(10):
        expected = choose_tokens(logits[:1], [alone])[0]
        assert choose_tokens(logits, [together, *others])[0] == expected


def test_a_resumed_sampler_is_the_one_that_chose() -> None:
    logits = random_logits(vocabulary_size=60)
    values: dict[str, Any] = {
        "temperature": 1.3, "seed": 4, "repetition_penalty": 1.2, "frequency_penalty": 0.8,
    }  # fmt: skip
    one = sampler(60, **values)
    chosen = [token or 0 for _ in range(40) for token in choose_tokens(logits, [one])]
    resumed = sampler(60, **values)
    resumed.resume(chosen[:30])
    assert [choose_tokens(logits, [resumed])[0] for _ in range(10)] == chosen[30:]


def test_other_seeds_and_no_seed_draw_otherwise() -> None:
    logits = torch.zeros(1, 1000)

    def draw(**values: Any) -> list[int | None]:
        one = sampler(1000, temperature=1.0, **values)
        return [choose_tokens(logits, [one])[0] for _ in range(5)]

    assert draw(seed=1) == draw(seed=1)
    assert draw(seed=1) != draw(seed=2)
    assert draw() != draw()


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**63 - 1])
def test_takes_every_allowed_seed(seed: int) -> None:
    assert choose_tokens(torch.zeros(1, 1), [sampler(1, temperature=1.0, seed=seed)]) == [0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bias", [{}, {1: 1.0}])
def test_a_row_without_a_possible_token_fails_alone(
    temperature: float, bias: dict[int, float]
) -> None:
    nan, inf = math.nan, math.inf
    logits = torch.tensor(
        [[0.0, 1.0], [nan, 1.0], [-inf, -inf], [nan, nan], [inf, 0.0], [-inf, 3.0], [1.0, nan]]
    )
    samplers = [
        sampler(2, temperature=temperature, top_k=1, seed=row, logit_bias=bias) for row in range(7)
    ]
    assert choose_tokens(logits, samplers) == [1, None, None, None, None, 1, None]


def test_works_on_half_precision_logits() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 9.0]], dtype=torch.bfloat16)
    assert choose_tokens(logits, [sampler(3), sampler(3)]) == [1, 2]
    mixed = [sampler(3, logit_bias={0: 5}), sampler(3, temperature=1.0, top_p=0.1, seed=1)]
    assert choose_tokens(logits, mixed) == [0, 2]


def test_only_allowed_tokens_are_chosen() -> None:
    logits = torch.tensor([9.0, 1.0, 8.0, 2.0])
    assert choose_tokens(logits[None], [sampler(4, allowed_token_ids=[3, 1, 1])]) == [3]
    assert possible_tokens(torch.zeros(6), allowed_token_ids=[5, 2]) == {2, 5}
    assert choose_tokens(logits[None], [sampler(4, allowed_token_ids=[1], top_k=2)]) == [1]


def test_no_token_completes_a_banned_sequence() -> None:
    logits = torch.tensor([[1.0, 5.0, 4.0, 3.0]])
    row = RowSampler((1, 2), SamplingParams(temperature=0), 4, CPU, banned=((3,), (1, 1), (1, 2)))
    assert not row.plain
    # What the prompt ends with begins none.
    assert [choose_tokens(logits, [row]) for _ in range(4)] == [[1], [0], [1], [0]]
    begun = RowSampler((0,), SamplingParams(temperature=0), 4, CPU, banned=((2, 1, 2), (2, 1, 1)))
    begun.resume([2, 1])
    assert choose_tokens(logits, [begun]) == [3]


@pytest.mark.parametrize("ignore_eos", [False, True])
def test_no_end_and_no_stop_before_the_least_tokens(ignore_eos: bool) -> None:
    logits = torch.tensor([[0.0, 4.0, 3.0, 2.0]])
    values = {"min_tokens": 2, "stop_token_ids": [2], "ignore_eos": ignore_eos}
    params = SamplingParams(temperature=0.0).update(values)
    early = 1 if ignore_eos else 3
    row = RowSampler((0,), params, 4, CPU, end_token_ids=[1])
    assert [choose_tokens(logits, [row])[0] for _ in range(3)] == [early, early, 1]
    assert row.plain
    again = RowSampler((0,), params, 4, CPU, end_token_ids=[1])
    again.resume([early])
    assert [choose_tokens(logits, [again])[0] for _ in range(2)] == [early, 1]


def test_what_is_not_the_engines_concern_is_ignored() -> None:
    logits = random_logits(rows=2, vocabulary_size=30)
    samplers = [sampler(30, n=4, stop=["x"], max_tokens=3), sampler(30)]
    assert all(one.plain for one in samplers)
    assert choose_tokens(logits, samplers) == logits.argmax(-1).tolist()


def test_rows_that_need_more_leave_the_others_to_one_argmax() -> None:
    logits = random_logits(rows=6, vocabulary_size=30)
    logits[4] = math.nan
    rows: list[dict[str, Any]] = [
        {}, {"logit_bias": {3: 100}}, {}, {"temperature": 1.0, "seed": 4}, {"temperature": 1.0},
        {"temperature": 1.0, "seed": 4, "frequency_penalty": 1.0},
    ]  # fmt: skip
    alone = [choose_tokens(logits[[row]], [sampler(30, **v)])[0] for row, v in enumerate(rows)]
    together = choose_tokens(logits, [sampler(30, **values) for values in rows])
    assert together == alone
    assert together[:3] == [int(logits[0].argmax()), 3, int(logits[2].argmax())]
    assert together[4] is None
