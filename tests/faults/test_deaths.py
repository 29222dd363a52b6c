"""The child dies, whatever it does at that moment: what can go on does, to the token."""

import logging
import signal
import threading
from pathlib import Path

import psutil
import pytest

from mooring.errors import EngineStopped, RequestFailed
from mooring.generation import Failed, Finished
from tests.engines.driving import Answer, ask
from tests.engines.process.children import children, kill_child, wait_for
from tests.faults.conftest import Sufferer
from tests.faults.reef import arm, arm_leaving

ARMED = 250
PROMPT = [5, 6, 7, 80]


def undisturbed(sufferer: Sufferer) -> tuple[list[int], list[int]]:
    """Return the tokens of the greedy and of the seeded bystander, undisturbed."""
    greedy, seeded = bystanders(sufferer)
    return greedy.wait().tokens, seeded.wait().tokens


def bystanders(sufferer: Sufferer) -> tuple[Answer, Answer]:
    return (
        ask(sufferer.engine, PROMPT, max_tokens=60, ignore_eos=True),
        ask(sufferer.engine, [9], max_tokens=60, ignore_eos=True, temperature=1.2, seed=3),
    )


def hanging(caplog: pytest.LogCaptureFixture) -> None:
    """Wait until the model hangs, after all that it sent before has come."""
    wait_for(lambda: "hanging" in caplog.text)


def waiting_ones(sufferer: Sufferer) -> list[Answer]:
    """Ask for more than there are places; while the model hangs none can begin."""
    return [ask(sufferer.engine, [30 + n], max_tokens=4, temperature=1.0) for n in range(3)]


def assert_survived(sufferer: Sufferer, before: psutil.Process) -> None:
    wait_for(lambda: sufferer.observed.told == ["restarting", "restarted"])
    assert not before.is_running()
    assert children() != [before]
    assert sufferer.engine.load().running == 0


def test_killed_in_decode(mortal: Sufferer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    expected = undisturbed(mortal)
    (before,) = children()
    arm(mortal.snapshot, "hang", ARMED)
    greedy, seeded = bystanders(mortal)
    wait_for(lambda: len(greedy.tokens) >= 3)
    forced = {ARMED: 100}
    unseeded = ask(mortal.engine, [8], max_tokens=9, temperature=1.0, logit_bias=forced)
    hanging(caplog)
    waiting = waiting_ones(mortal)
    kill_child()
    assert isinstance(unseeded.end, Failed)
    assert type(unseeded.end.error) is EngineStopped
    assert "without a seed cannot be repeated" in unseeded.end.error.message
    assert unseeded.tokens == [ARMED]
    assert (greedy.end, greedy.tokens) == (Finished("length"), expected[0])
    assert (seeded.end, seeded.tokens) == (Finished("length"), expected[1])
    assert {type(answer.end) for answer in waiting} == {Finished}
    assert_survived(mortal, before)


def test_killed_in_prefill(mortal: Sufferer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    expected = undisturbed(mortal)
    arm(mortal.snapshot, "hang", ARMED, once=True)
    greedy, seeded = bystanders(mortal)
    wait_for(lambda: len(greedy.tokens) >= 3)
    read_again = ask(mortal.engine, [8, ARMED] * 20, max_tokens=4, temperature=1.0, ignore_eos=True)
    hanging(caplog)
    waiting = waiting_ones(mortal)
    (before,) = children()
    kill_child()
    assert (greedy.end, greedy.tokens) == (Finished("length"), expected[0])
    assert (seeded.end, seeded.tokens) == (Finished("length"), expected[1])
    assert (read_again.end, len(read_again.tokens)) == (Finished("length"), 4)
    assert {type(answer.end) for answer in waiting} == {Finished}
    assert_survived(mortal, before)


def test_native_code_crashes_in_a_step(mortal: Sufferer, caplog: pytest.LogCaptureFixture) -> None:
    expected = undisturbed(mortal)
    (before,) = children()
    arm(mortal.snapshot, "crash", ARMED, once=True)
    greedy, seeded = bystanders(mortal)
    wait_for(lambda: len(greedy.tokens) >= 3)
    crashing = ask(mortal.engine, PROMPT, max_tokens=9, logit_bias={ARMED: 100}, ignore_eos=True)
    assert (greedy.end, greedy.tokens) == (Finished("length"), expected[0])
    assert (seeded.end, seeded.tokens) == (Finished("length"), expected[1])
    assert (crashing.end, crashing.tokens) == (Finished("length"), [ARMED] * 9)
    assert "it was ended by SIGSEGV" in caplog.text
    assert_survived(mortal, before)


def test_native_code_crashes_when_a_request_is_cancelled(
    mortal: Sufferer, caplog: pytest.LogCaptureFixture
) -> None:
    expected = undisturbed(mortal)
    (before,) = children()
    greedy, seeded = bystanders(mortal)
    leaving = ask(mortal.engine, [8, 9], max_tokens=99, temperature=1.0, ignore_eos=True)
    wait_for(lambda: len(greedy.tokens) >= 3 and len(leaving.tokens) >= 3)
    arm_leaving(mortal.snapshot)
    mortal.engine.cancel(leaving.id)
    assert (greedy.end, greedy.tokens) == (Finished("length"), expected[0])
    assert (seeded.end, seeded.tokens) == (Finished("length"), expected[1])
    assert leaving.end == Finished("cancelled")
    assert "it was ended by SIGSEGV" in caplog.text
    assert_survived(mortal, before)


@pytest.mark.parametrize("place", ["prompt", "answer"])
def test_what_always_crashes_fails_alone(
    mortal: Sufferer, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = undisturbed(mortal)
    arm(mortal.snapshot, "crash", ARMED)
    greedy, seeded = bystanders(mortal)
    wait_for(lambda: len(greedy.tokens) >= 3)
    if place == "prompt":
        crashing = ask(mortal.engine, [5, ARMED], max_tokens=9)
    else:
        crashing = ask(mortal.engine, PROMPT, max_tokens=9, logit_bias={ARMED: 100})
    wait_for(lambda: "restarting" in mortal.observed.told)
    later = ask(mortal.engine, [7, 7], max_tokens=9, ignore_eos=True)
    assert isinstance(crashing.end, Failed)
    assert type(crashing.end.error) is RequestFailed
    assert "not tried again" in crashing.end.error.message
    assert (greedy.end, greedy.tokens) == (Finished("length"), expected[0])
    assert (seeded.end, seeded.tokens) == (Finished("length"), expected[1])
    assert (later.end, len(later.tokens)) == (Finished("length"), 9)
    assert mortal.observed.told == ["restarting", "restarted"] * 2
    assert caplog.text.count("it was ended by SIGSEGV") == 2


def test_killed_in_load_three_times(
    snapshot: Path, clean: None, caplog: pytest.LogCaptureFixture
) -> None:
    sufferer = Sufferer(snapshot)
    failures: list[EngineStopped] = []

    def start() -> None:
        try:
            sufferer.engine.start()
        except EngineStopped as error:
            failures.append(error)

    starting = threading.Thread(target=start)
    starting.start()
    for deaths in range(1, 4):
        wait_for(lambda: bool(children()) and children()[0].status() != psutil.STATUS_ZOMBIE)
        kill_child(signal.SIGKILL)
        wait_for(lambda n=deaths: n == 3 or caplog.text.count("The engine died") == n)  # type: ignore[misc]
    starting.join(30)
    (error,) = failures
    assert error.message == "The engine died 3 times in 60 s: it was ended by SIGKILL."
    with pytest.raises(EngineStopped, match="3 times"):
        ask(sufferer.engine, PROMPT)
    sufferer.engine.close()
    assert children() == []
    assert sufferer.observed.told == []


def test_files_that_break_after_the_start_end_the_engine_at_its_next_deaths(
    mortal: Sufferer,
) -> None:
    (mortal.snapshot / "config.json").write_text("{")
    waiting = ask(mortal.engine, PROMPT, max_tokens=200, ignore_eos=True)
    wait_for(lambda: bool(waiting.tokens))
    kill_child()
    assert isinstance(waiting.end, Failed)
    assert type(waiting.end.error) is EngineStopped
    assert "died 3 times in 60 s: it could not load the model again" in waiting.end.error.message
    assert mortal.observed.told == ["restarting", "restarting", "failed"]
