"""Tokens of converted models: those of transformers, whoever shares the batch."""

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from mooring.engines.openvino import OpenVINOEngine
from mooring.errors import CorruptArtifact, InvalidParameter, RequestFailed, UnsupportedParameter
from mooring.generation import Failed, Finished, LogprobsWanted
from mooring.settings import EngineSettings
from tests.engines.conftest import ConvertedOf, SnapshotOf
from tests.engines.driving import ask

PROMPTS = [[5 + i, 6, 7 * (i + 1)] * (1 + 6 * i) for i in range(6)]


@pytest.fixture
def started(converted_of: ConvertedOf) -> Iterator[Any]:
    """Start an engine of a family in float32; close it at the end."""
    engines: list[OpenVINOEngine] = []

    def start(family: str = "llama", *, paged: bool = True, **settings: Any) -> OpenVINOEngine:
        settings = {"dtype": "float32"} | settings
        engine = OpenVINOEngine(
            converted_of(family, paged=paged), EngineSettings("openvino", **settings)
        )
        engines.append(engine)
        engine.start()
        return engine

    yield start
    for engine in engines:
        engine.close()


@pytest.fixture(scope="session")
def greedy_of(snapshot_of: SnapshotOf) -> Any:
    """Return what `generate` of transformers says, for each of some prompts."""

    def generate(family: str, prompts: list[list[int]], tokens: int) -> list[list[int]]:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            snapshot_of(family), dtype=torch.float32
        )
        return [
            model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt)),
                max_new_tokens=tokens,
                eos_token_id=-1,
                do_sample=False,
            )[0, len(prompt) :].tolist()
            for prompt in prompts
        ]

    return generate


def test_paged_tokens_are_those_of_transformers(started: Any, greedy_of: Any) -> None:
    engine = started()
    answers = [ask(engine, prompt, max_tokens=20, ignore_eos=True) for prompt in PROMPTS]
    expected = greedy_of("llama", PROMPTS, 20)
    assert [answer.wait().tokens for answer in answers] == expected


def test_tokens_alone_are_those_of_transformers(started: Any, greedy_of: Any) -> None:
    engine = started("mpt", paged=False)
    answers = [ask(engine, prompt, max_tokens=20, ignore_eos=True) for prompt in PROMPTS]
    assert [answer.wait().tokens for answer in answers] == greedy_of("mpt", PROMPTS, 20)


def test_logprobs_are_those_of_the_raw_scores(started: Any, snapshot_of: SnapshotOf) -> None:
    answer = ask(
        started(), PROMPTS[2], max_tokens=9, ignore_eos=True, logprobs=LogprobsWanted(answer=0),
        temperature=1.5, seed=3, top_k=40, repetition_penalty=1.3,
    ).wait()  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_pretrained(
        snapshot_of("llama"), dtype=torch.float32
    )
    ids = torch.tensor([PROMPTS[2] + answer.tokens])
    with torch.inference_mode():
        scores = model(ids).logits[0, -10:-1].log_softmax(-1)
    right = scores.gather(-1, ids[0, -9:, None]).squeeze(-1).tolist()
    given = [one.logprob for one in answer.likelihoods if one]
    assert given == pytest.approx(right, abs=1e-3)


def test_logprobs_are_refused_where_one_runs_alone(started: Any) -> None:
    with pytest.raises(UnsupportedParameter, match="cannot honour `logprobs`"):
        ask(started("mpt", paged=False), [5], max_tokens=1, logprobs=LogprobsWanted(answer=0))


def test_the_paged_way_gets_alibi_wrong(started: Any, greedy_of: Any) -> None:
    # The reason for the other way: when this fails, the library has been mended.
    engine = started("mpt")
    answers = [ask(engine, prompt, max_tokens=20, ignore_eos=True) for prompt in PROMPTS]
    assert [answer.wait().tokens for answer in answers] != greedy_of("mpt", PROMPTS, 20)


@pytest.mark.parametrize("paged", [True, False])
def test_a_seed_decides_whoever_shares_the_batch(started: Any, paged: bool) -> None:
    engine = started(paged=paged)
    sampling: dict[str, Any] = {"temperature": 1.3, "max_tokens": 12, "ignore_eos": True}
    alone = ask(engine, [5, 6], seed=-7, **sampling).wait().tokens
    crowd = [ask(engine, [9, number], **sampling) for number in range(3, 8)]
    among = ask(engine, [5, 6], seed=-7, **sampling)
    assert among.wait().tokens == alone
    assert ask(engine, [5, 6], seed=8, **sampling).wait().tokens != alone
    assert len({tuple(answer.wait().tokens) for answer in crowd}) == 5


def test_without_a_seed_each_answer_is_another(started: Any) -> None:
    engine = started()
    answers = [
        ask(engine, [5, 6], temperature=2.0, max_tokens=12, ignore_eos=True) for _ in range(4)
    ]
    assert len({tuple(answer.wait().tokens) for answer in answers}) == 4


@pytest.mark.parametrize("paged", [True, False])
@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 1.0, "seed": 3, "top_p": 0.9, "top_k": 40, "min_p": 0.01},
        {"frequency_penalty": 1.5},
        {"presence_penalty": 1.5},
        {"repetition_penalty": 1.7},
    ],
    ids=["drawn", "frequency", "presence", "repetition"],
)
def test_an_answer_that_was_begun_goes_on_exactly(
    started: Any, paged: bool, sampling: dict[str, Any]
) -> None:
    engine = started(paged=paged)
    whole = ask(engine, [5, 6, 7], max_tokens=16, ignore_eos=True, **sampling).wait().tokens
    assert len(whole) == 16
    rest = ask(engine, [5, 6, 7], generated=whole[:9], max_tokens=16, ignore_eos=True, **sampling)
    assert rest.end == Finished("length")
    assert rest.tokens == whole[9:]


def test_an_answer_begun_with_other_draws_fails(started: Any) -> None:
    answer = ask(started(), [5, 6], generated=[3, 3, 3, 3], max_tokens=9, temperature=1.0, seed=3)
    assert isinstance(answer.end, Failed)
    assert isinstance(answer.end.error, RequestFailed)
    assert answer.tokens == []


@pytest.mark.parametrize(
    "sampling",
    [{"repetition_penalty": 1.8}, {"presence_penalty": 2}, {"frequency_penalty": 2}],
)
def test_penalties_change_what_is_said(started: Any, sampling: dict[str, Any]) -> None:
    engine = started()
    prompt = [5, 6, 7] * 20
    plain = ask(engine, prompt, max_tokens=20, ignore_eos=True).wait().tokens
    assert ask(engine, prompt, max_tokens=20, ignore_eos=True, **sampling).wait().tokens != plain


@pytest.mark.parametrize("sampling", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
def test_narrow_sampling_is_greedy(started: Any, sampling: dict[str, Any]) -> None:
    engine = started()
    greedy = ask(engine, [5, 6], max_tokens=12, ignore_eos=True).wait().tokens
    narrow = ask(engine, [5, 6], max_tokens=12, ignore_eos=True, temperature=1.0, **sampling)
    assert narrow.wait().tokens == greedy


def test_ends_at_an_end_token(started: Any) -> None:
    engine = started()
    tokens = ask(engine, [5, 6], max_tokens=12, ignore_eos=True).wait().tokens
    engine.close()
    model = engine._model
    stopping = OpenVINOEngine(
        type(model)(
            model.folder, True, model.vocabulary_size, model.context_length, 128, (tokens[5],)
        ),
        EngineSettings("openvino", dtype="float32"),
    )
    stopping.start()
    answer = ask(stopping, [5, 6], max_tokens=12)
    assert answer.end == Finished("stop", end_token=tokens[5])
    assert answer.tokens == tokens[: tokens.index(tokens[5])]
    stopping.close()


def test_a_full_cache_makes_requests_wait_and_changes_no_token(started: Any) -> None:
    choice = random.Random(7)
    prompts = [[choice.randrange(3, 259) for _ in range(50)] for _ in range(8)]
    roomy = started()
    expected = [
        ask(roomy, prompt, max_tokens=60, ignore_eos=True).wait().tokens for prompt in prompts
    ]
    roomy.close()
    tight = started(cache_bytes=5 * 32 * 128 * 4)
    answers = [ask(tight, prompt, max_tokens=60, ignore_eos=True) for prompt in prompts]
    assert [answer.wait().tokens for answer in answers] == expected


def test_what_the_cache_can_never_hold_is_refused(started: Any) -> None:
    engine = started(cache_bytes=5 * 32 * 128 * 4)
    with pytest.raises(InvalidParameter, match=r"`max_tokens` must be <= 28 after this prompt"):
        ask(engine, [5] * 100, max_tokens=29)
    answer = ask(engine, [5] * 100, max_tokens=28, ignore_eos=True)
    assert answer.end == Finished("length")


def test_a_cache_too_small_for_anything_is_refused(converted_of: ConvertedOf) -> None:
    engine = OpenVINOEngine(
        converted_of("llama"), EngineSettings("openvino", dtype="float32", cache_bytes=1000)
    )
    with pytest.raises(InvalidParameter, match="`cache_bytes` must be >= 32768, 64 tokens"):
        engine.start()


@pytest.mark.parametrize(
    ("weights", "dtype", "precision"),
    [
        ("int8", None, "int8 weights in float32"),
        ("int4", "auto", "int4 weights in float32"),
        ("int8", "bfloat16", "int8 weights in bfloat16"),
        ("float32", "float32", "float32"),
    ],
)
def test_rounded_weights_are_computed_with_in_float32(
    converted_of: ConvertedOf, weights: str, dtype: Any, precision: str
) -> None:
    model = replace(converted_of("llama"), weights=weights)
    engine = OpenVINOEngine(model, EngineSettings("openvino", dtype=dtype))
    assert engine.start().precision == precision
    engine.close()


def test_names_what_it_cannot_honour(started: Any) -> None:
    with pytest.raises(UnsupportedParameter, match="openvino engine cannot honour `logit_bias`"):
        ask(started(), [5], logit_bias={5: 1.0})


def test_refuses_another_device(converted_of: ConvertedOf) -> None:
    engine = OpenVINOEngine(converted_of("llama"), EngineSettings("openvino", "cuda"))
    with pytest.raises(InvalidParameter, match=r"runs on the CPU\. Given: cuda"):
        engine.start()


def test_names_a_model_that_cannot_be_loaded(converted_of: ConvertedOf, tmp_path: Any) -> None:
    model = converted_of("llama")
    (tmp_path / "openvino_model.xml").write_text("<net")
    broken = type(model)(tmp_path, True, 259, 256, 128, (2,))
    with pytest.raises(CorruptArtifact, match="OpenVINO cannot load the converted model"):
        OpenVINOEngine(broken, EngineSettings("openvino")).start()


@pytest.mark.parametrize(("family", "paged"), [("llama", True), ("mpt", False)])
@pytest.mark.parametrize("ignore_eos", [False, True])
def test_no_stop_comes_before_the_least_tokens(
    started: Any, transformers_engine: Any, family: str, paged: bool, ignore_eos: bool
) -> None:
    engine, other = started(family, paged=paged), transformers_engine(family)
    for prompt in PROMPTS[:3]:
        first = ask(other, prompt, max_tokens=1, ignore_eos=True).wait().tokens
        values: Any = {
            "max_tokens": 8, "min_tokens": 5, "stop_token_ids": first, "ignore_eos": ignore_eos
        }  # fmt: skip
        expected = ask(other, prompt, **values).wait().tokens
        answer = ask(engine, prompt, **values).wait()
        stop = expected.index(first[0]) + 1 if first[0] in expected else len(expected)
        assert answer.tokens == expected[:stop]
        assert stop > 5


@pytest.mark.parametrize(("family", "paged"), [("llama", True), ("mpt", False)])
@pytest.mark.parametrize("ignore_eos", [False, True])
def test_a_model_without_an_end_token_runs(
    converted_of: ConvertedOf, tmp_path: Path, greedy_of: Any, family: str, paged: bool,
    ignore_eos: bool,
) -> None:  # fmt: skip
    endless = replace(converted_of(family, paged=paged), folder=tmp_path, end_token_ids=())
    shutil.copytree(converted_of(family).folder, tmp_path, dirs_exist_ok=True)
    for name in ("config.json", "generation_config.json"):
        values = json.loads((tmp_path / name).read_bytes())
        del values["eos_token_id"]
        (tmp_path / name).write_text(json.dumps(values))
    engine = OpenVINOEngine(endless, EngineSettings("openvino", dtype="float32"))
    engine.start()
    try:
        for least in ({}, {"min_tokens": 5}, {"min_tokens": 5, "stop_token_ids": [3]}):
            values = {"max_tokens": 9, "ignore_eos": ignore_eos, **least}
            answer = ask(engine, PROMPTS[1], **values).wait()
            assert answer.end == Finished("length")
            assert answer.tokens == greedy_of(family, PROMPTS[1:2], 9)[0]
    finally:
        engine.close()
