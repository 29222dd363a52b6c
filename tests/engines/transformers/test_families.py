"""Every kind of model gives the tokens that transformers' own `generate` gives it alone."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from mooring.engines.contract import Engine
from mooring.engines.transformers import TransformersEngine
from mooring.generation import Finished
from mooring.settings import EngineSettings
from tests.engines.conftest import EngineOf, SnapshotOf
from tests.engines.driving import Answer, ask
from tests.engines.transformers.legacy import legacy_remote_code
from tests.models import CONTEXT_LENGTH, END, VOCABULARY_SIZE

FAMILIES = (
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma2",
    "gemma3",
    "phi",
    "mixtral",
    "falcon",
    "falcon_alibi",
    "gpt2",
    "gpt_neox",
    "mpt",
    "bloom",
    "opt",
    "mamba",
    "remote_code",
)
Request = tuple[list[int], int]


def requests(count: int, seed: int) -> list[Request]:
    """Make prompts of 1 to 40 tokens with 1 to 30 tokens to generate."""
    numbers = random.Random(seed)
    return [
        (
            [numbers.randrange(3, VOCABULARY_SIZE) for _ in range(numbers.randint(1, 40))],
            numbers.randint(1, 30),
        )
        for _ in range(count)
    ]


def generate_alone(model: Any, request: Request) -> tuple[list[int], Finished]:
    prompt, max_tokens = request
    ids = model.generate(
        torch.tensor([prompt]), max_new_tokens=max_tokens, do_sample=False, use_cache=True
    )[0, len(prompt) :].tolist()
    if ids[-1] == END:
        return ids[:-1], Finished("stop", end_token=END)
    return ids, Finished("length")


def outcome(answer: Answer) -> tuple[list[int], Any]:
    return answer.wait().tokens, answer.end


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_generate(
    family: str, snapshot_of: SnapshotOf, transformers_engine: EngineOf
) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        snapshot_of(family), dtype=torch.float32, trust_remote_code=family == "remote_code"
    )
    together, later = requests(9, seed=1), requests(3, seed=2)
    engine = transformers_engine(family, max_running=8)
    answers = send_staggered(engine, together, later)
    expected = [generate_alone(model, request) for request in (*together, *later)]
    assert [outcome(answer) for answer in answers] == expected


def send_staggered(engine: Engine, together: list[Request], later: list[Request]) -> list[Answer]:
    """Send `together` at once, and each of `later` when the first has made 4, 8, 12 tokens."""
    newcomers: list[Answer] = []
    arrivals = iter(later)

    def invite(answer: Answer) -> None:
        if len(answer.tokens) % 4 == 0 and (request := next(arrivals, None)) is not None:
            newcomers.append(ask(engine, request[0], max_tokens=request[1]))

    first = ask(engine, [5, 6, 7], max_tokens=40, ignore_eos=True, on_token=invite)
    answers = [ask(engine, prompt, max_tokens=limit) for prompt, limit in together]
    first.wait()
    assert len(newcomers) == len(later)
    return answers + newcomers


def greedy_without_cache(model: Any, request: Request) -> tuple[list[int], Finished]:
    prompt, max_tokens = request
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(max_tokens):
            token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
            if token == END:
                return ids[len(prompt) :], Finished("stop", end_token=END)
            ids.append(token)
    return ids[len(prompt) :], Finished("length")


@pytest.mark.parametrize("keeps_cache", [True, False])
def test_takes_remote_code_with_an_old_cache_or_none(tmp_path: Path, keeps_cache: bool) -> None:
    snapshot = legacy_remote_code(tmp_path / "legacy", keeps_cache=keeps_cache)
    model = transformers.AutoModelForCausalLM.from_pretrained(snapshot, trust_remote_code=True)
    engine = TransformersEngine(
        snapshot,
        EngineSettings(device="cpu", dtype="float32"),
        trust_remote_code=True,
        context_length=CONTEXT_LENGTH,
        end_token_ids=(END,),
    )
    engine.start()
    try:
        asked = [([9, 8, 7], 12), ([20, 21, 22], 5), ([30, 31, 32], 9), ([40], 20), *requests(4, 3)]
        answers = [ask(engine, prompt, max_tokens=limit) for prompt, limit in asked]
        expected = [greedy_without_cache(model, request) for request in asked]
        assert [outcome(answer) for answer in answers] == expected
    finally:
        engine.close()


def spy_on_lengths(monkeypatch: pytest.MonkeyPatch, model_class: Any) -> list[tuple[int, int]]:
    """Record the shape of the input ids of every forward call."""
    shapes: list[tuple[int, int]] = []
    wrapped: Callable[..., Any] = model_class.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(kwargs["input_ids"].shape))
        return wrapped(self, *args, **kwargs)

    forward.__wrapped__ = wrapped  # type: ignore[attr-defined]
    monkeypatch.setattr(model_class, "forward", forward)
    return shapes


def test_mpt_runs_with_a_cache_though_its_config_says_no(
    monkeypatch: pytest.MonkeyPatch, snapshot_of: SnapshotOf, transformers_engine: EngineOf
) -> None:
    assert not transformers.AutoConfig.from_pretrained(snapshot_of("mpt")).use_cache
    shapes = spy_on_lengths(monkeypatch, transformers.MptForCausalLM)
    engine = transformers_engine("mpt", prompt_lookup=False)
    shapes.clear()
    ask(engine, [5, 6, 7, 8, 9], max_tokens=4, ignore_eos=True).wait()
    assert shapes == [(1, 5), (1, 1), (1, 1), (1, 1)]


def test_requests_together_share_a_batch_and_leave_it_one_by_one(
    monkeypatch: pytest.MonkeyPatch, transformers_engine: EngineOf
) -> None:
    engine = transformers_engine("llama", max_running=3, prompt_lookup=False)
    shapes = spy_on_lengths(monkeypatch, transformers.LlamaForCausalLM)
    answers = [
        ask(engine, prompt, max_tokens=limit, ignore_eos=True)
        for prompt, limit in (([5] * 4, 3), ([6] * 2, 1), ([7] * 3, 5))
    ]
    assert [len(answer.wait().tokens) for answer in answers] == [3, 1, 5]
    assert shapes == [(1, 2 + 3 + 4), (2, 1), (2, 1), (1, 1), (1, 1)]


def test_unpaddable_models_share_a_batch_by_equal_length(
    monkeypatch: pytest.MonkeyPatch, transformers_engine: EngineOf
) -> None:
    engine = transformers_engine("mamba", max_running=3)
    shapes = spy_on_lengths(monkeypatch, transformers.MambaForCausalLM)
    for answer in [ask(engine, p, max_tokens=2, ignore_eos=True) for p in ([5, 6], [7], [8, 9])]:
        answer.wait()
    assert sorted(shapes) == sorted([(2, 2), (1, 1), (2, 1), (1, 1)])
