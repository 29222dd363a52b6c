"""The echo engine answers with the prompt, at the pace it is told."""

from collections.abc import Iterator
from contextlib import contextmanager

from mooring.engines.echo import EchoEngine, EchoSettings
from mooring.errors import RequestFailed
from mooring.generation import (
    Failed,
    Finished,
    GenerationRequest,
    Likelihood,
    LogprobsWanted,
    PromptRead,
    Token,
)
from tests.engines.driving import ask


@contextmanager
def started(engine: EchoEngine) -> Iterator[EchoEngine]:
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


def test_echoes_the_prompt_once_and_stops() -> None:
    with started(EchoEngine()) as engine:
        answer = ask(engine, [7, 8, 9], max_tokens=10).wait()
    assert answer.tokens == [7, 8, 9]
    assert answer.end == Finished("stop")


def test_makes_logprobs_up() -> None:
    with started(EchoEngine()) as engine:
        wanted = LogprobsWanted(answer=0, prompt=2, prompt_begin=2)
        answer = ask(engine, [7, 8, 9], max_tokens=1, logprobs=wanted).wait()
    assert answer.events[1:] == [
        PromptRead((Likelihood(-0.25, ((9, -0.25), (10, -0.75)), 1),)),
        Token(7, Likelihood(-1.0, rank=1)),
        Finished("length"),
    ]


def test_ends_at_the_limit() -> None:
    with started(EchoEngine()) as engine:
        short = ask(engine, [7, 8, 9], max_tokens=2).wait()
        exact = ask(engine, [7, 8, 9], max_tokens=3).wait()
    assert (short.tokens, short.end) == ([7, 8], Finished("length"))
    assert (exact.tokens, exact.end) == ([7, 8, 9], Finished("length"))


def test_repeats_the_prompt_past_its_end_if_told() -> None:
    with started(EchoEngine()) as engine:
        answer = ask(engine, [7, 8, 9], max_tokens=7, ignore_eos=True).wait()
    assert answer.tokens == [7, 8, 9, 7, 8, 9, 7]
    assert answer.end == Finished("length")


def test_fails_the_request_it_is_told_to_fail() -> None:
    def fail_after(request: GenerationRequest) -> int | None:
        return 2 if request.id == "doomed" else None

    with started(EchoEngine(EchoSettings(fail_after=fail_after))) as engine:
        doomed = ask(engine, [7, 8, 9], id="doomed", max_tokens=9)
        other = ask(engine, [7, 8, 9], max_tokens=9)
        assert doomed.wait().tokens == [7, 8]
        assert isinstance(doomed.end, Failed)
        assert isinstance(doomed.end.error, RequestFailed)
        assert doomed.end.error.message == "Told to fail after 2 tokens."
        assert (other.wait().tokens, other.end) == ([7, 8, 9], Finished("stop"))


def test_may_fail_before_the_first_token() -> None:
    with started(EchoEngine(EchoSettings(fail_after=lambda request: 0))) as engine:
        answer = ask(engine, [7], max_tokens=1).wait()
    assert answer.tokens == []
    assert isinstance(answer.end, Failed)


def test_keeps_its_pace_by_the_clock() -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        now[0] += seconds

    def slow_receiver(_: object) -> None:
        now[0] += 0.1

    settings = EchoSettings(seconds_per_token=0.5)
    with started(EchoEngine(settings, clock=lambda: now[0], sleep=sleep)) as engine:
        ask(engine, [7, 8, 9], max_tokens=3, on_token=slow_receiver).wait()
        assert slept == [0.5, 0.4, 0.4]
        now[0] += 60
        ask(engine, [7], max_tokens=1).wait()
    assert slept == [0.5, 0.4, 0.4, 0.5]


def test_does_not_sleep_without_a_pace() -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError(seconds)

    with started(EchoEngine(sleep=sleep)) as engine:
        assert ask(engine, [7, 8], max_tokens=2).end == Finished("length")
