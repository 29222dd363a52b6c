"""What every engine promises, whatever generates its tokens."""

import threading
import time
from typing import Any

import pytest

from mooring.engines import loop
from mooring.engines.contract import Capabilities, Engine
from mooring.errors import (
    ContextExceeded,
    EngineStopped,
    InvalidInput,
    InvalidParameter,
    InvalidPrompt,
    RequestFailed,
)
from mooring.generation import Failed, Finished, LogprobsWanted, PromptRead, Started, Token
from tests.engines.conftest import EngineOf
from tests.engines.driving import Answer, ask, engine_threads
from tests.models import CONTEXT_LENGTH, VOCABULARY_SIZE

# What is seen step by step only where no pipe lies between.
in_this_process = pytest.mark.parametrize(
    "engine_of", ["echo", "transformers", "openvino"], indirect=True
)


@pytest.fixture
def engine(engine_of: EngineOf) -> Engine:
    engine: Engine = engine_of()
    engine.start()
    return engine


def test_start_tells_capabilities(engine_of: EngineOf) -> None:
    capabilities = engine_of(max_running=5).start()
    assert isinstance(capabilities, Capabilities)
    assert capabilities.context_length == CONTEXT_LENGTH
    assert capabilities.vocabulary_size == VOCABULARY_SIZE
    assert capabilities.max_running == 5


def test_sends_tokens_then_one_end(engine: Engine) -> None:
    answer = ask(engine, [5, 6, 7], max_tokens=3).wait()
    assert [type(event) for event in answer.events] == [Started, Token, Token, Token, Finished]
    assert answer.end == Finished("length")


def test_what_ends_while_it_waits_never_started(engine_of: EngineOf) -> None:
    engine = engine_of(max_running=1)
    engine.start()
    began = threading.Event()
    running = ask(engine, [5], max_tokens=250, ignore_eos=True, on_token=lambda _: began.set())
    waiting = ask(engine, [6], max_tokens=3)
    assert began.wait(10)
    assert (engine.load().running, engine.load().waiting) == (1, 1)
    for answer in (waiting, running):
        engine.cancel(answer.id)
    assert waiting.wait().events == [Finished("cancelled")]
    assert running.wait().events[0] == Started()


def test_goes_on_past_the_end_token_if_told(engine: Engine) -> None:
    answer = ask(engine, [5, 6], max_tokens=40, ignore_eos=True).wait()
    assert len(answer.tokens) == 40
    assert answer.end == Finished("length")


def test_takes_the_rest_of_the_context_without_a_limit(engine: Engine) -> None:
    answer = ask(engine, [5] * (CONTEXT_LENGTH - 4), ignore_eos=True).wait()
    assert len(answer.tokens) == 4
    assert answer.end == Finished("length")


def test_goes_on_with_an_answer_that_was_begun_before(engine: Engine) -> None:
    whole = ask(engine, [5, 6, 7], max_tokens=8, ignore_eos=True).wait().tokens
    rest = ask(engine, [5, 6, 7], generated=whole[:5], max_tokens=8, ignore_eos=True)
    assert rest.end == Finished("length")
    assert rest.tokens == whole[5:]


@pytest.mark.parametrize("wanted", [LogprobsWanted(0), LogprobsWanted(3), LogprobsWanted(2, 1, 2)])
def test_gives_the_logprobs_it_says_it_can_and_refuses_others(
    engine_of: EngineOf, wanted: LogprobsWanted
) -> None:
    engine = engine_of()
    able = engine.start()
    most, prompt = able.top_logprobs, wanted.prompt is not None
    if most is None or (prompt and not able.prompt_logprobs) or max(wanted.answer or 0, 0) > most:
        with pytest.raises(InvalidInput, match=f"The {able.name} engine") as refused:
            ask(engine, [5, 6, 7], max_tokens=4, ignore_eos=True, logprobs=wanted)
        assert refused.value.param == "logprobs"
        return
    answer = ask(engine, [5, 6, 7], max_tokens=4, ignore_eos=True, logprobs=wanted).wait()
    started, *events = answer.events
    assert isinstance(started, Started)
    if prompt:
        read = events.pop(0)
        assert isinstance(read, PromptRead)
        assert [len(one.top) for one in read.likelihoods] == [1]
    assert [type(event) for event in events] == [Token] * 4 + [Finished]
    for likelihood in answer.likelihoods:
        assert likelihood is not None
        assert likelihood.logprob <= 0
        assert len(likelihood.top) == wanted.answer
        assert all(p >= likelihood.logprob for _, p in likelihood.top[:1])


def test_reads_a_prompt_only_for_its_logprobs(engine_of: EngineOf) -> None:
    engine = engine_of()
    if engine.start().prompt_logprobs:
        answer = ask(engine, [5, 6, 7], max_tokens=0, logprobs=LogprobsWanted(prompt=0)).wait()
        assert [type(event) for event in answer.events] == [Started, PromptRead, Finished]
        assert len(answer.prompt[0]) == 2
    with pytest.raises(InvalidParameter, match=r"`max_tokens` must be >= 1. Given: 0"):
        ask(engine, [5, 6, 7], max_tokens=0)


def test_cancels_within_one_step_and_leaves_others_alone(engine: Engine) -> None:
    undisturbed = ask(engine, [9, 10, 11], max_tokens=20, ignore_eos=True).wait().tokens

    def cancel_at_three(answer: Answer) -> None:
        if len(answer.tokens) == 3:
            engine.cancel(answer.id)

    cancelled = ask(engine, [5, 6], max_tokens=50, ignore_eos=True, on_token=cancel_at_three)
    other = ask(engine, [9, 10, 11], max_tokens=20, ignore_eos=True)
    assert cancelled.end == Finished("cancelled")
    assert len(cancelled.tokens) == 3
    assert other.end == Finished("length")
    assert other.tokens == undisturbed


def test_cancels_what_waits(engine_of: EngineOf) -> None:
    engine = engine_of(max_running=1)
    engine.start()

    waiting_counts: list[int] = []

    def cancel_waiting(answer: Answer) -> None:
        waiting_counts.append(engine.load().waiting)
        if len(answer.tokens) == 5:
            engine.cancel("waits")

    running = ask(engine, [5], max_tokens=20, ignore_eos=True, on_token=cancel_waiting)
    waiting = ask(engine, [6], id="waits", max_tokens=20)
    assert waiting.end == Finished("cancelled")
    assert waiting.tokens == []
    assert running.end == Finished("length")
    assert waiting_counts[4:] == [1] + [0] * 15


@in_this_process
def test_the_place_of_the_cancelled_is_taken_in_the_next_step(engine_of: EngineOf) -> None:
    engine = engine_of(max_running=1)
    engine.start()
    steps: list[int] = []

    def cancel_at_three(answer: Answer) -> None:
        if len(answer.tokens) == 3:
            steps.append(engine.load().steps)
            engine.cancel(answer.id)

    def note(answer: Answer) -> None:
        steps.append(engine.load().steps)

    cancelled = ask(engine, [5], max_tokens=50, ignore_eos=True, on_token=cancel_at_three)
    successor = ask(engine, [6], max_tokens=1, on_token=note, ignore_eos=True)
    assert successor.end == Finished("length")
    assert cancelled.end == Finished("cancelled")
    assert steps[1] - steps[0] == 1


def test_ignores_cancelling_the_unknown(engine: Engine) -> None:
    engine.cancel("nobody")
    assert ask(engine, [5], max_tokens=1).end == Finished("length")


@in_this_process
def test_an_idle_engine_gathers_requests_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, engine_of: EngineOf
) -> None:
    monkeypatch.setattr(loop, "GATHER_SECONDS", 60)
    engine = engine_of(max_running=2)
    engine.start()
    first = ask(engine, [5], max_tokens=3, ignore_eos=True)
    time.sleep(0.05)
    assert (first.events, engine.load().steps) == ([], 0)
    second = ask(engine, [6], max_tokens=3, ignore_eos=True)
    assert (first.end, second.end) == (Finished("length"), Finished("length"))
    assert engine.load().steps <= 3


def test_newcomers_do_not_wait_for_others_to_end(engine: Engine) -> None:
    ends: list[str] = []
    newcomer: list[Answer] = []

    def invite(answer: Answer) -> None:
        if len(answer.tokens) == 3:
            newcomer.append(ask(engine, [9], max_tokens=4, ignore_eos=True, on_token=note))
        if len(answer.tokens) == 100:
            ends.append("old")

    def note(answer: Answer) -> None:
        if len(answer.tokens) == 4:
            ends.append("new")

    ask(engine, [5, 6], max_tokens=100, ignore_eos=True, on_token=invite).wait()
    assert newcomer[0].end == Finished("length")
    assert ends == ["new", "old"]


def test_runs_at_most_max_running(engine_of: EngineOf) -> None:
    engine = engine_of(max_running=2)
    engine.start()
    running: list[int] = []

    def count(answer: Answer) -> None:
        running.append(engine.load().running)

    answers = [ask(engine, [5], max_tokens=6, ignore_eos=True, on_token=count) for _ in range(5)]
    assert [answer.end for answer in answers] == [Finished("length")] * 5
    assert max(running) == 2


def test_counts_what_runs_waits_and_steps(engine_of: EngineOf) -> None:
    engine = engine_of(max_running=1)
    engine.start()
    assert (engine.load().running, engine.load().waiting, engine.load().steps) == (0, 0, 0)
    seen = threading.Event()
    answers = [
        ask(engine, [5], max_tokens=9, ignore_eos=True, on_token=lambda _: (seen.wait(9), None)[1])
        for _ in range(3)
    ]
    while engine.load().running == 0:
        pass
    assert (engine.load().running, engine.load().waiting) == (1, 2)
    seen.set()
    for answer in answers:
        answer.wait()
    assert (engine.load().running, engine.load().waiting) == (0, 0)
    assert engine.load().steps >= 26


@pytest.mark.parametrize(
    ("prompt", "sampling", "error", "message"),
    [
        ([], {}, InvalidPrompt, "The prompt must have at least 1 token. Given: 0."),
        ([5, 259], {}, InvalidPrompt, "must be >= 0 and < 259. Given: 259."),
        ([-1, 5], {}, InvalidPrompt, "must be >= 0 and < 259. Given: -1."),
        ([5] * 256, {}, ContextExceeded, "must have < 256 tokens, the model's context. Given: 256"),
        ([5] * 6, {"max_tokens": 251}, InvalidParameter, "`max_tokens` must be <= 250 after"),
        ([5], {"logit_bias": {259: 1.0}}, InvalidParameter, "must be < 259, the model's voc"),
        ([5], {"generated": [6, 259]}, InvalidPrompt, "must be >= 0 and < 259. Given: 259."),
        (
            [5],
            {"generated": [6, 7], "max_tokens": 2},
            InvalidParameter,
            "`max_tokens` must be > 2, the tokens generated before. Given: 2.",
        ),
    ],
)
def test_refuses_what_could_only_fail(
    engine: Engine,
    prompt: list[int],
    sampling: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error) as raised:
        ask(engine, prompt, **sampling)
    assert message in str(raised.value)
    assert engine.load().waiting == 0


def test_names_the_parameter_it_refuses(engine: Engine) -> None:
    with pytest.raises(InvalidParameter) as raised:
        ask(engine, [5], logit_bias={700: 1.0})
    assert raised.value.param == "logit_bias"
    assert "Given: 700." in raised.value.message


def test_refuses_an_id_in_use_and_takes_it_again_later(engine: Engine) -> None:
    first = ask(engine, [5], id="same", max_tokens=100, ignore_eos=True)
    with pytest.raises(RequestFailed, match="Given twice: same"):
        ask(engine, [5], id="same")
    assert first.end == Finished("length")
    assert ask(engine, [5], id="same", max_tokens=1).end == Finished("length")


def test_a_broken_receiver_does_not_stop_others(engine: Engine) -> None:
    def break_down(answer: Answer) -> None:
        raise RuntimeError("receiver is gone")

    broken = ask(engine, [5], max_tokens=50, on_token=break_down)
    other = ask(engine, [6, 7], max_tokens=10, ignore_eos=True)
    assert other.end == Finished("length")
    assert len(other.tokens) == 10
    assert [type(event) for event in broken.events] == [Started, Token]


def test_does_not_take_requests_before_start(engine_of: EngineOf) -> None:
    with pytest.raises(EngineStopped):
        ask(engine_of(), [5])


def test_close_ends_everything(engine_of: EngineOf) -> None:
    engine = engine_of(max_running=2)
    engine.start()
    began = threading.Event()
    answers = [
        ask(engine, [5], max_tokens=250, ignore_eos=True, on_token=lambda _: began.set())
        for _ in range(4)
    ]
    assert began.wait(10)
    engine.close()
    for answer in answers:
        end = answer.end
        assert isinstance(end, Failed)
        assert isinstance(end.error, EngineStopped)
        assert sum(isinstance(event, Finished | Failed) for event in answer.events) == 1
    assert engine_threads() == []
    with pytest.raises(EngineStopped):
        ask(engine, [5])
    engine.close()


def test_close_before_start_makes_start_fail(engine_of: EngineOf) -> None:
    engine = engine_of()
    engine.close()
    with pytest.raises(EngineStopped):
        engine.start()
    assert engine_threads() == []


def test_may_be_closed_by_a_receiver(engine: Engine) -> None:
    answer = ask(engine, [5], max_tokens=250, on_token=lambda _: engine.close())
    assert isinstance(answer.end, Failed)
    assert len(answer.tokens) == 1
    engine.close()
    assert engine_threads() == []
