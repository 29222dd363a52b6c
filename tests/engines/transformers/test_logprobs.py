"""Log-probabilities are those of the model's raw scores, however a row came to its token."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from mooring.engines.contract import Engine
from mooring.engines.transformers import logprobs, prefill
from mooring.engines.transformers.logprobs import describe, describe_chosen
from mooring.generation import LEAST_LOGPROB, Finished, Likelihood, LogprobsWanted
from tests.engines.conftest import EngineOf, SnapshotOf
from tests.engines.driving import ask

PROMPT = [1, *range(40, 110), 40, 41, 42, 43]
BOTH = LogprobsWanted(answer=3, prompt=3)


def plain(snapshot: Path, ids: list[int], most: int) -> list[Likelihood]:
    """Return how likely plain transformers finds each of `ids` but the first."""
    trusts = "remote_code" in snapshot.name
    model: Any = AutoModelForCausalLM.from_pretrained(
        snapshot, dtype=torch.float32, trust_remote_code=trusts
    )
    with torch.inference_mode():
        scores = model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
    tops = scores.topk(most)
    return [
        Likelihood(
            float(row[token]),
            tuple(zip(best.tolist(), values.tolist(), strict=True)),
            int((row >= row[token]).sum()),
        )
        for row, token, best, values in zip(scores, ids[1:], tops.indices, tops.values, strict=True)
    ]


def assert_same(given: Any, right: list[Likelihood]) -> None:
    assert len(given) == len(right)
    for one, other in zip(given, right, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=2e-4)
        assert one.rank == other.rank
        assert [token for token, _ in one.top] == [token for token, _ in other.top]
        assert [p for _, p in one.top] == pytest.approx([p for _, p in other.top], abs=2e-4)


@pytest.mark.parametrize("family", ["llama", "mpt", "mistral", "mamba", "remote_code"])
def test_prompt_and_answer_are_as_likely_as_plain_transformers_says(
    transformers_engine: EngineOf, snapshot_of: SnapshotOf, family: str
) -> None:
    engine = transformers_engine(family)
    answer = ask(engine, PROMPT, max_tokens=9, ignore_eos=True, logprobs=BOTH).wait()
    right = plain(snapshot_of(family), PROMPT + answer.tokens, 3)
    (prompt,) = answer.prompt
    assert_same(prompt, right[: len(PROMPT) - 1])
    assert_same(answer.likelihoods, right[len(PROMPT) - 1 :])
    # Greedy: what was chosen is the most likely.
    assert [one.top[0][0] for one in answer.likelihoods if one] == answer.tokens


def test_rows_side_by_side_get_what_they_ask_for(
    transformers_engine: EngineOf, snapshot_of: SnapshotOf
) -> None:
    engine = transformers_engine("llama")
    wanted = [LogprobsWanted(), LogprobsWanted(0), LogprobsWanted(5), LogprobsWanted(None, 1)]
    answers = [
        ask(engine, PROMPT[: 20 + n], max_tokens=6, ignore_eos=True, logprobs=one)
        for n, one in enumerate(wanted)
    ]
    for n, (one, answer) in enumerate(zip(wanted, answers, strict=True)):
        answer.wait()
        assert len(answer.prompt) == (one.prompt is not None)
        if one.answer is None:
            assert answer.likelihoods == [None] * 6
        else:
            ids = PROMPT[: 20 + n] + answer.tokens
            right = plain(snapshot_of("llama"), ids, one.answer)[19 + n :]
            assert_same(answer.likelihoods, right)


def test_sampling_parameters_do_not_change_them(
    transformers_engine: EngineOf, snapshot_of: SnapshotOf
) -> None:
    answer = ask(
        transformers_engine("llama"), PROMPT, max_tokens=8, temperature=1.7, seed=3, top_k=20,
        presence_penalty=1.5, logit_bias={"77": 3.0}, ignore_eos=True, logprobs=LogprobsWanted(2),
    ).wait()  # fmt: skip
    right = plain(snapshot_of("llama"), PROMPT + answer.tokens, 2)[len(PROMPT) - 1 :]
    assert_same(answer.likelihoods, right)


def test_guessed_tokens_have_them_too(
    transformers_engine: EngineOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = transformers_engine("llama")
    run = engine._runner._way._run
    widths: list[int] = []

    def watched(*places: Any) -> Any:
        logits = run(*places)
        widths.append(len(logits))
        return logits

    way = engine._runner._way
    monkeypatch.setattr(way._speculation, "_rate", lambda size, trust: float(size))
    monkeypatch.setattr(way, "_run", watched)
    drafted = ask(engine, [5] * 8, max_tokens=60, ignore_eos=True, logprobs=LogprobsWanted(1))
    plainly = ask(
        transformers_engine("llama", prompt_lookup=False), [5] * 8, max_tokens=60,
        ignore_eos=True, logprobs=LogprobsWanted(1),
    )  # fmt: skip
    assert drafted.wait().tokens == plainly.wait().tokens
    assert max(widths) > 1
    assert_same(drafted.likelihoods, [one for one in plainly.likelihoods if one])


@pytest.mark.parametrize("begin", [1, 2, 33, 40, 74, 75])
def test_what_was_read_before_is_used_only_before_what_is_asked(
    transformers_engine: EngineOf, snapshot_of: SnapshotOf, begin: int
) -> None:
    engine = transformers_engine("llama")
    ask(engine, PROMPT, max_tokens=1, ignore_eos=True).wait()
    wanted = LogprobsWanted(prompt=2, prompt_begin=begin)
    answer = ask(engine, PROMPT, max_tokens=0, logprobs=wanted).wait()
    (prompt,) = answer.prompt
    assert_same(prompt, plain(snapshot_of("llama"), PROMPT, 2)[begin - 1 :])
    assert answer.events[2:] == [Finished("length", (begin - 1) // 32 * 32)]


def test_a_prompt_is_read_in_pieces_that_bound_the_memory(
    transformers_engine: EngineOf, snapshot_of: SnapshotOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprobs, "_MOST_NUMBERS", 8 * 259 + 5)
    widest: list[int] = []

    def watched(logits: torch.Tensor, *rest: Any) -> list[Likelihood]:
        widest.append(len(logits))
        return describe(logits, *rest)

    monkeypatch.setattr(prefill, "describe", watched)
    answer = ask(transformers_engine("llama"), PROMPT, max_tokens=1, logprobs=BOTH).wait()
    assert max(widest) == 8
    assert_same(answer.prompt[0], plain(snapshot_of("llama"), PROMPT, 3))


@pytest.mark.parametrize("family", ["llama", "mamba"])
def test_an_answer_begun_before_tells_its_prompt_and_goes_on(
    transformers_engine: EngineOf, family: str
) -> None:
    engine = transformers_engine(family)
    whole = ask(engine, PROMPT, max_tokens=9, ignore_eos=True, logprobs=BOTH).wait()
    rest = ask(
        engine, PROMPT, max_tokens=9, ignore_eos=True, logprobs=BOTH, generated=whole.tokens[:4]
    ).wait()
    assert rest.tokens == whole.tokens[4:]
    assert_same(rest.prompt[0], list(whole.prompt[0]))
    assert_same(rest.likelihoods, [one for one in whole.likelihoods[4:] if one])


def test_a_whole_context_can_be_read(transformers_engine: EngineOf) -> None:
    engine: Engine = transformers_engine("llama")
    answer = ask(engine, [5] * 256, max_tokens=0, logprobs=BOTH).wait()
    assert len(answer.prompt[0]) == 255
    assert answer.end == Finished("length")


def test_what_cannot_come_has_a_finite_value_and_no_number_is_an_error() -> None:
    scores = torch.tensor([[0.0, -torch.inf, 0.0]])
    assert describe(scores, [1], 3)[0].logprob == LEAST_LOGPROB
    assert describe(scores, [0], 9)[0].top[2] == (1, LEAST_LOGPROB)
    with pytest.raises(ArithmeticError):
        describe(torch.tensor([[0.0, torch.nan]]), [0], 0)
    assert describe_chosen(scores.repeat(2, 1), [None, 0], [1, None]) == [None, None]
