"""The transformers engine: sampling per request, and failures that stay where they belong."""

import gc
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from mooring.engines.contract import Capabilities, Engine
from mooring.engines.transformers import TransformersEngine
from mooring.errors import (
    BrokenSource,
    ContextExceeded,
    EngineError,
    InvalidParameter,
    MissingDependency,
    MooringError,
    NotEnoughMemory,
    OutOfMemory,
    RequestFailed,
    UnsafeSource,
)
from mooring.generation import Failed, Finished
from mooring.settings import EngineSettings
from tests.engines.conftest import EngineOf, SnapshotOf
from tests.engines.driving import Answer, ask, engine_threads
from tests.models import CONTEXT_LENGTH, END

POISON = 250
PROMPT = [5, 6, 7, 80]


@pytest.fixture
def engine(transformers_engine: EngineOf) -> Engine:
    engine: Engine = transformers_engine("llama")
    return engine


def greedy(engine: Engine, prompt: list[int] = PROMPT, count: int = 12) -> list[int]:
    return ask(engine, prompt, max_tokens=count, ignore_eos=True).wait().tokens


def test_tells_what_it_runs(snapshot_of: SnapshotOf) -> None:
    engine = TransformersEngine(
        snapshot_of("llama"),
        EngineSettings(device="cpu", dtype="bfloat16", context_length=100, max_running=3),
        context_length=CONTEXT_LENGTH,
        end_token_ids=(END,),
    )
    capabilities = engine.start()
    engine.close()
    assert capabilities.name == "transformers"
    assert capabilities.version == transformers.__version__
    assert (capabilities.device, capabilities.precision) == ("cpu", "bfloat16")
    assert (capabilities.context_length, capabilities.max_running) == (100, 3)


def test_settings_cannot_lengthen_the_context(snapshot_of: SnapshotOf) -> None:
    settings = EngineSettings(device="cpu", context_length=10 * CONTEXT_LENGTH)
    engine = TransformersEngine(
        snapshot_of("llama"), settings, context_length=CONTEXT_LENGTH, end_token_ids=()
    )
    assert engine.start().context_length == CONTEXT_LENGTH
    engine.close()


def test_stops_at_the_end_token_without_sending_it(engine: Engine) -> None:
    answer = ask(engine, PROMPT, max_tokens=9, logit_bias={END: 100}).wait()
    assert (answer.tokens, answer.end) == ([], Finished("stop", end_token=END))


def test_sends_end_tokens_if_told_to_ignore_them(engine: Engine) -> None:
    answer = ask(engine, PROMPT, max_tokens=4, logit_bias={END: 100}, ignore_eos=True).wait()
    assert (answer.tokens, answer.end) == ([END] * 4, Finished("length"))


def test_stops_at_any_of_several_end_tokens(transformers_engine: EngineOf) -> None:
    first, second = greedy(transformers_engine("llama"))[2:4]
    engine = transformers_engine("llama", end_token_ids=(END, second, first))
    answer = ask(engine, PROMPT, max_tokens=9).wait()
    assert (len(answer.tokens), answer.end) == (2, Finished("stop", end_token=first))


def test_logit_bias_forces_a_token(engine: Engine) -> None:
    answer = ask(engine, PROMPT, max_tokens=3, logit_bias={77: 100}).wait()
    assert answer.tokens == [77, 77, 77]


def test_repetition_penalty_equals_generate(engine: Engine, snapshot_of: SnapshotOf) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(snapshot_of("llama"))
    expected = model.generate(
        torch.tensor([PROMPT]), max_new_tokens=25, do_sample=False, repetition_penalty=1.8
    )[0, len(PROMPT) :].tolist()
    answer = ask(engine, PROMPT, max_tokens=25, repetition_penalty=1.8)
    assert answer.wait().tokens == [token for token in expected if token != END]
    assert answer.tokens[:20] != greedy(engine, count=20)


def test_a_seed_repeats_whoever_shares_the_batch(engine: Engine) -> None:
    sampled: dict[str, Any] = {
        "max_tokens": 20,
        "temperature": 1.5,
        "top_p": 0.95,
        "ignore_eos": True,
    }
    alone = ask(engine, PROMPT, seed=11, **sampled).wait().tokens
    crowd = [
        ask(engine, [number] * number, max_tokens=number, temperature=1.0, ignore_eos=True)
        for number in range(3, 9)
    ]
    together = ask(engine, PROMPT, seed=11, **sampled)
    other_seed = ask(engine, PROMPT, seed=12, **sampled)
    unseeded = [ask(engine, PROMPT, **sampled) for _ in range(2)]
    assert together.wait().tokens == alone
    assert other_seed.wait().tokens != alone
    assert unseeded[0].wait().tokens != unseeded[1].wait().tokens
    assert [len(answer.wait().tokens) for answer in crowd] == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("begun", [1, 7, 19])
@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.0, "repetition_penalty": 1.6},
        {"temperature": 1.5, "seed": 7},
        {"temperature": 1.5, "seed": 7, "presence_penalty": 1.5, "frequency_penalty": 0.9},
    ],
)
def test_an_answer_begun_before_goes_on_unchanged(
    engine: Engine, sampling: dict[str, Any], begun: int
) -> None:
    sampling = {**sampling, "max_tokens": 20, "ignore_eos": True}
    whole = ask(engine, PROMPT, **sampling).wait().tokens
    rest = ask(engine, PROMPT, generated=whole[:begun], **sampling)
    assert rest.wait().tokens == whole[begun:]


def test_top_k_one_equals_greedy(engine: Engine) -> None:
    answer = ask(engine, PROMPT, max_tokens=12, temperature=2.0, top_k=1, ignore_eos=True)
    assert answer.wait().tokens == greedy(engine)


def test_the_services_fields_change_nothing(engine: Engine) -> None:
    answer = ask(engine, PROMPT, max_tokens=12, ignore_eos=True, n=3, stop=["a"], seed=4)
    assert answer.wait().tokens == greedy(engine)


Forward = Callable[..., Any]


def poison(monkeypatch: pytest.MonkeyPatch, harm: Callable[[torch.Tensor, Any], None]) -> None:
    """Call `harm` with input ids and outputs of every forward pass that sees a POISON token."""
    healthy: Forward = transformers.LlamaForCausalLM.forward

    @wraps(healthy)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = healthy(self, *args, **kwargs)
        if (kwargs["input_ids"] == POISON).any():
            harm(kwargs["input_ids"], outputs)
        return outputs

    monkeypatch.setattr(transformers.LlamaForCausalLM, "forward", forward)


def raise_out_of_memory(*_: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB in /secret/path")


def raise_unheard_of(*_: Any) -> None:
    class Unheard(Exception):
        pass

    raise Unheard("in /secret/path")


def test_a_row_without_finite_scores_fails_alone(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    healthy = torch.nn.Embedding.forward

    def spoil(self: torch.nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
        """Let what follows the poison in its own row be no numbers."""
        return healthy(self, ids).masked_fill((ids == POISON)[..., None], float("nan"))

    expected = greedy(engine), greedy(engine, [9, 10])
    monkeypatch.setattr(torch.nn.Embedding, "forward", spoil)
    before = ask(engine, PROMPT, max_tokens=12, ignore_eos=True)
    poisoned = ask(engine, [5, POISON], max_tokens=12)
    sampled = ask(engine, [POISON, 5], max_tokens=12, temperature=1.0)
    after = ask(engine, [9, 10], max_tokens=12, ignore_eos=True)
    for answer in (poisoned, sampled):
        assert isinstance(answer.end, Failed)
        assert isinstance(answer.end.error, RequestFailed)
        assert answer.end.error.message.startswith("No token is possible")
        assert answer.tokens == []
    assert (before.wait().tokens, after.wait().tokens) == expected


@pytest.mark.parametrize(
    ("harm", "error", "said"),
    [
        (raise_out_of_memory, OutOfMemory, "There was no memory to generate this answer. "),
        (raise_unheard_of, RequestFailed, "The model failed while generating this answer. "),
        (lambda *_: 1 / 0, RequestFailed, "The model failed while generating this answer. "),
    ],
)
def test_a_prompt_that_fails_in_the_model_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[torch.Tensor, Any], None],
    error: type[EngineError],
    said: str,
) -> None:
    expected = greedy(engine, count=30), greedy(engine, [9, 10], count=5)
    poison(monkeypatch, harm)
    joined: list[Answer] = []

    def invite(answer: Answer) -> None:
        if len(answer.tokens) == 3:
            joined.append(ask(engine, [5, POISON], max_tokens=5))
            joined.append(ask(engine, [9, 10], max_tokens=5, ignore_eos=True))

    old = ask(engine, PROMPT, max_tokens=30, ignore_eos=True, on_token=invite)
    assert old.wait().tokens == expected[0]
    poisoned, healthy = joined
    assert isinstance(poisoned.end, Failed)
    assert type(poisoned.end.error) is error
    assert poisoned.end.error.message.startswith(said)
    assert "secret" not in poisoned.end.error.message
    assert healthy.wait().tokens == expected[1]
    assert "A prompt failed in the model; its request fails." in caplog.text
    assert greedy(engine, count=30) == expected[0]
    assert engine.load().running == 0


def test_a_token_that_fails_in_the_model_fails_its_row_alone(
    monkeypatch: pytest.MonkeyPatch, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = [PROMPT, [9, 10], [30] * 9]
    expected = [greedy(engine, prompt) for prompt in prompts]
    poison(monkeypatch, raise_unheard_of)
    first = ask(engine, prompts[0], max_tokens=12, ignore_eos=True)
    forced = ask(engine, [7], max_tokens=12, logit_bias={POISON: 100}, ignore_eos=True)
    others = [ask(engine, prompt, max_tokens=12, ignore_eos=True) for prompt in prompts[1:]]
    assert [answer.wait().tokens for answer in (first, *others)] == expected
    assert isinstance(forced.end, Failed)
    assert forced.tokens == [POISON]
    assert "A model step failed; its 4 requests run alone." in caplog.text


def test_a_failure_in_the_middle_keeps_what_was_sent(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    expected = greedy(engine)
    poison(monkeypatch, raise_unheard_of)
    failing = ask(engine, PROMPT, max_tokens=12, logit_bias={POISON: 0.0}, ignore_eos=True)
    assert failing.wait().tokens == expected
    forced = ask(engine, PROMPT, max_tokens=12, logit_bias={POISON: 100}, ignore_eos=True)
    assert isinstance(forced.end, Failed)
    assert forced.tokens == [POISON]


def test_start_fails_with_an_error_of_ours(snapshot_of: SnapshotOf) -> None:
    engine = TransformersEngine(
        snapshot_of("remote_code"),
        EngineSettings(device="cpu"),
        context_length=CONTEXT_LENGTH,
        end_token_ids=(END,),
    )
    with pytest.raises(UnsafeSource) as raised:
        engine.start()
    assert isinstance(raised.value, MooringError)
    with pytest.raises(MooringError):
        ask(engine, PROMPT)
    engine.close()
    assert engine_threads() == []


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (RuntimeError("no kernel for this device"), BrokenSource, "no kernel for this device"),
        (ImportError("needs flash_attn"), MissingDependency, "needs flash_attn"),
        (MemoryError(), NotEnoughMemory, "must fit into memory"),
        (torch.OutOfMemoryError(), NotEnoughMemory, "must fit into memory"),
    ],
)
def test_a_model_that_fails_on_its_first_tokens_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
    transformers_engine: EngineOf,
    raised: Exception,
    expected: type[MooringError],
    message: str,
) -> None:
    def fail(*_: Any, **__: Any) -> torch.Tensor:
        raise raised

    monkeypatch.setattr(transformers.LlamaModel, "forward", fail)
    with pytest.raises(expected, match=message):
        transformers_engine("llama")
    assert engine_threads() == []


def models_alive() -> int:
    return sum(type(thing) is transformers.GPT2LMHeadModel for thing in gc.get_objects())


def test_close_frees_the_model(transformers_engine: EngineOf) -> None:
    gc.collect()
    before = models_alive()
    engine = transformers_engine("gpt2")
    answer = ask(engine, PROMPT, max_tokens=200, ignore_eos=True)
    assert models_alive() == before + 1
    engine.close()
    assert answer.wait()
    assert models_alive() == before


def start_with_cache(snapshot: Path, cache_bytes: int) -> tuple[Engine, Capabilities]:
    engine = TransformersEngine(
        snapshot,
        EngineSettings(device="cpu", dtype="float32", cache_bytes=cache_bytes),
        context_length=CONTEXT_LENGTH,
        end_token_ids=(END,),
    )
    return engine, engine.start()


def test_refuses_what_can_never_fit_the_cache_and_makes_wait_what_cannot_now(
    snapshot_of: SnapshotOf, engine: Engine
) -> None:
    bytes_per_token = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, head_dim, float32
    small, capabilities = start_with_cache(snapshot_of("llama"), 40 * bytes_per_token)
    assert capabilities.context_length == 40
    with pytest.raises(ContextExceeded, match=r"must have < 40 tokens, the model's context"):
        ask(small, [5] * 40)
    with pytest.raises(InvalidParameter, match="`max_tokens` must be <= 10 after this prompt"):
        ask(small, [5] * 30, max_tokens=11)
    prompts = [[number] * (5 + number) for number in range(5, 15)]
    used: list[float] = []
    answers = [
        ask(
            small,
            prompt,
            max_tokens=15,
            ignore_eos=True,
            on_token=lambda _: used.append(small.load().cache.used),
        )
        for prompt in prompts
    ]
    assert [answer.wait().tokens for answer in answers] == [
        greedy(engine, prompt, 15) for prompt in prompts
    ]
    assert 0.25 < max(used) <= 1
    small.close()


def test_refuses_a_cache_too_small_for_anything(snapshot_of: SnapshotOf) -> None:
    with pytest.raises(InvalidParameter, match="`cache_bytes` must be >= 512, two tokens"):
        start_with_cache(snapshot_of("llama"), 500)


def test_says_once_how_requests_will_run(
    transformers_engine: EngineOf, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mooring.engines")
    transformers_engine("llama")
    assert [record.message for record in caplog.records] == [
        "The weights are packed for this CPU.",
        f"Continuous batching: the cache holds at most {32 * CONTEXT_LENGTH} tokens.",
    ]
    caplog.clear()
    transformers_engine("mamba")
    assert "No continuous batching with this model: requests run in groups." in caplog.messages


def test_an_answer_ends_no_sooner_than_it_may(transformers_engine: EngineOf) -> None:
    for family in ("llama", "mamba"):  # rows in columns, and groups
        engine = transformers_engine(family)
        bias: Any = {"logit_bias": {str(END): 100}, "max_tokens": 9}
        answer = ask(engine, [5, 6, 7], min_tokens=4, **bias)
        assert answer.end == Finished("stop", end_token=END)
        assert len(answer.tokens) == 4
        assert ask(engine, [5, 6, 7], **bias).wait().tokens == []


def test_banned_sequences_never_come(
    transformers_engine: EngineOf, snapshot_of: SnapshotOf
) -> None:
    for family in ("llama", "mamba"):  # rows in columns, and groups
        engine = transformers_engine(family)
        free = ask(engine, PROMPT, max_tokens=12, ignore_eos=True).wait().tokens
        banned = [tuple(free[:2]), (free[5],), tuple(free[8:11])]
        kept = ask(engine, PROMPT, max_tokens=12, ignore_eos=True, banned=banned).wait().tokens
        model = transformers.AutoModelForCausalLM.from_pretrained(
            snapshot_of(family), dtype=torch.float32
        )
        right = model.generate(
            torch.tensor([PROMPT]), max_new_tokens=12, do_sample=False, eos_token_id=None,
            bad_words_ids=[list(ids) for ids in banned],
        )[0, len(PROMPT) :]  # fmt: skip
        assert kept == right.tolist() != free
        again = ask(
            engine, PROMPT, generated=kept[:5], max_tokens=12, ignore_eos=True, banned=banned
        )
        assert again.wait().tokens == kept[5:]
