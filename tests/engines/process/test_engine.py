"""Engines in child processes outlive what happens to the child: real processes, real signals."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from mooring.engines.description import EngineDescription
from mooring.engines.process import ProcessEngine, supervised
from mooring.engines.process import watch as process_watch
from mooring.engines.transformers import TransformersEngine
from mooring.errors import BrokenSource, EngineStopped, RequestFailed
from mooring.generation import Failed, Finished
from mooring.settings import EngineSettings
from tests import models
from tests.engines.conftest import SnapshotOf
from tests.engines.driving import Answer, ask
from tests.engines.process.children import EchoChild, children, kill_child, wait_for

PROMPT = [5, 6, 7]
ENDLESS: dict[str, Any] = {"max_tokens": 250, "ignore_eos": True}


def at_token(count: int, *numbers: signal.Signals) -> Any:
    """Signal the child, with SIGKILL unless told otherwise, when an answer has `count` tokens."""

    def act(answer: Answer) -> None:
        if len(answer.tokens) == count:
            for number in numbers or (signal.SIGKILL,):
                kill_child(number)

    return act


def ends(answer: Answer) -> int:
    return sum(isinstance(event, Finished | Failed) for event in answer.events)


def test_a_killed_child_is_replaced_and_the_answer_goes_on() -> None:
    with EchoChild() as child:
        (before,) = children()
        answer = ask(child.engine, PROMPT, max_tokens=60, ignore_eos=True, on_token=at_token(20))
        assert answer.end == Finished("length")
        assert answer.tokens == PROMPT * 20
        assert ends(answer) == 1
        (after,) = children()
        assert after.pid != before.pid
        assert child.observed.told == ["restarting", "restarted"]
        assert child.engine.load().steps >= 55


def test_a_death_at_the_last_token_still_ends_once() -> None:
    with EchoChild() as child:
        answer = ask(child.engine, PROMPT, max_tokens=9, ignore_eos=True, on_token=at_token(9))
        assert (answer.end, answer.tokens) == (Finished("length"), PROMPT * 3)
        wait_for(lambda: child.observed.told == ["restarting", "restarted"])
        assert ask(child.engine, PROMPT).wait().tokens == PROMPT
        assert ends(answer) == 1


def test_what_cannot_be_repeated_fails_and_what_waits_stays() -> None:
    with EchoChild(max_running=2) as child:
        unseeded = ask(child.engine, PROMPT, **ENDLESS, temperature=1.0, on_token=at_token(20))
        seeded = ask(child.engine, PROMPT, temperature=1.0, seed=1, max_tokens=60, ignore_eos=True)
        waiting = ask(child.engine, [9, 8], temperature=1.0)
        assert isinstance(unseeded.end, Failed)
        assert type(unseeded.end.error) is EngineStopped
        assert "without a seed cannot be repeated" in unseeded.end.error.message
        # What the child wrote before it died still arrives, so there may be a few more than 20.
        assert len(unseeded.tokens) >= 20
        assert unseeded.tokens == (PROMPT * 1000)[: len(unseeded.tokens)]
        assert (seeded.end, seeded.tokens) == (Finished("length"), PROMPT * 20)
        assert (waiting.end, waiting.tokens) == (Finished("stop"), [9, 8])
        assert [ends(answer) for answer in (unseeded, seeded, waiting)] == [1, 1, 1]


def test_a_stopped_child_is_found_out_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    with EchoChild(hang_seconds=1.5) as child:
        began = time.monotonic()
        answer = ask(
            child.engine, PROMPT, max_tokens=60, ignore_eos=True,
            on_token=at_token(20, signal.SIGSTOP),
        )  # fmt: skip
        assert (answer.end, answer.tokens) == (Finished("length"), PROMPT * 20)
        assert time.monotonic() - began > 1.5
    assert "The engine died: it said nothing for" in caplog.text


def test_a_child_that_makes_no_step_is_found_out(caplog: pytest.LogCaptureFixture) -> None:
    with EchoChild(hang_seconds=0.4, seconds_per_token=60) as child:
        answer = ask(child.engine, PROMPT)
        wait_for(lambda: "restarting" in child.observed.told)
        wait_for(lambda: "restarted" in child.observed.told)
        wait_for(lambda: bool(children()))
        began = time.monotonic()
        child.engine.close()
        assert time.monotonic() - began < 6
        assert isinstance(answer.end, Failed)
    assert "The engine died: it" in caplog.text


def test_a_step_that_raises_fails_its_requests_and_the_child_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with EchoChild(breaks_at_step=10, max_running=2) as child:
        (before,) = children()
        running = [ask(child.engine, PROMPT, **ENDLESS) for _ in range(2)]
        waiting = ask(child.engine, PROMPT)
        for answer in running:
            assert isinstance(answer.end, Failed)
            assert type(answer.end.error) is RequestFailed
            assert len(answer.tokens) == 10
        assert (waiting.end, waiting.tokens) == (Finished("stop"), PROMPT)
        assert children() == [before]
        wait_for(lambda: "Told to break at step 10." in caplog.text)
    (record,) = [record for record in caplog.records if "step failed" in record.message]
    assert (record.name, record.levelno) == ("mooring.engines.loop", logging.ERROR)


def test_the_third_death_in_a_minute_is_the_last() -> None:
    with EchoChild() as child:
        for restarts in range(2):
            kill_child()
            wait_for(lambda n=restarts: child.observed.told.count("restarted") > n)  # type: ignore[misc]
        answers = [ask(child.engine, PROMPT, **ENDLESS) for _ in range(3)]
        wait_for(lambda: bool(answers[0].tokens))
        kill_child()
        why = "The engine died 3 times in 60 s: it was ended by SIGKILL."
        for answer in answers:
            assert isinstance(answer.end, Failed)
            assert type(answer.end.error) is EngineStopped
            assert answer.end.error.message == why
        with pytest.raises(EngineStopped, match=r"3 times in 60 s"):
            ask(child.engine, PROMPT)
        assert child.observed.told == ["restarting", "restarted"] * 2 + ["failed"]
        assert child.observed.error is not None
        assert child.observed.error.message == why


def test_what_is_cancelled_while_there_is_no_child_ends_too() -> None:
    with EchoChild() as child:

        def kill_and_cancel(answer: Answer) -> None:
            if len(answer.tokens) == 20:
                kill_child()
                wait_for(lambda: not children() or children()[0].status() == "zombie")
                child.engine.cancel(answer.id)

        answer = ask(child.engine, PROMPT, **ENDLESS, on_token=kill_and_cancel)
        assert (answer.end, len(answer.tokens)) == (Finished("cancelled"), 20)
        later = ask(child.engine, PROMPT)
        assert later.wait().tokens == PROMPT


def test_requests_sent_while_there_is_no_child_run_after_the_restart() -> None:
    with EchoChild() as child:
        kill_child()
        wait_for(lambda: child.observed.told == ["restarting"])
        answers = [ask(child.engine, PROMPT) for _ in range(3)]
        assert [answer.wait().tokens for answer in answers] == [PROMPT] * 3


def test_many_restarts_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "MOST_DEATHS", 1000)
    monkeypatch.setattr(process_watch, "RESTART_DELAYS", (0.0,))
    this = psutil.Process()
    with EchoChild() as child:
        before = (this.num_fds(), threading.active_count())
        for restarts in range(20):
            kill_child()
            wait_for(lambda n=restarts: child.observed.told.count("restarted") > n)  # type: ignore[misc]
        assert ask(child.engine, PROMPT).wait().tokens == PROMPT
        assert (this.num_fds(), threading.active_count()) == before
        assert len(this.children()) == 1
    assert this.children() == []


def test_the_child_has_no_descriptors_but_its_own(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        with EchoChild():
            (child,) = children()
            descriptors = Path(f"/proc/{child.pid}/fd")
            links = [os.readlink(descriptor) for descriptor in descriptors.iterdir()]
            assert not [link for link in links if link.endswith("secret")]
            assert len([link for link in links if link.startswith("socket:")]) == 1
            assert os.getpgid(child.pid) == child.pid


PARENT = """
import sys, time
from tests.engines.process.children import EchoChild, children
from tests.engines.driving import ask
with EchoChild() as child:
    ask(child.engine, [5], max_tokens=250, ignore_eos=True)
    print(children()[0].pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_child_ends_when_its_parent_is_killed(stopped: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        if stopped:
            child.suspend()
        parent.kill()
        parent.wait()
        began = time.monotonic()
        wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
        assert time.monotonic() - began < 2


def described(snapshot: Path, **values: Any) -> EngineDescription:
    return EngineDescription(
        snapshot=str(snapshot),
        context_length=models.CONTEXT_LENGTH,
        vocabulary_size=models.VOCABULARY_SIZE,
        settings=EngineSettings("transformers", device="cpu", dtype="float32"),
        end_token_ids=(models.END,),
        **values,
    )


SAMPLINGS: list[dict[str, Any]] = [
    {"temperature": 0.0, "repetition_penalty": 1.3},
    {"temperature": 1.5, "seed": 7, "presence_penalty": 1.0, "frequency_penalty": 0.5},
]


def test_a_model_killed_in_load_and_in_decode_gives_the_same_tokens(
    snapshot_of: SnapshotOf,
) -> None:
    engine = ProcessEngine(described(snapshot_of("llama")))
    starting = threading.Thread(target=engine.start)
    starting.start()
    wait_for(lambda: bool(children()) and children()[0].num_threads() >= 3)
    kill_child()
    starting.join(60)
    assert not starting.is_alive()

    def ask_both(on_token: Any = None) -> list[Answer]:
        return [
            ask(engine, PROMPT, **sampling, max_tokens=40, ignore_eos=True, on_token=act)
            for sampling, act in zip(SAMPLINGS, (on_token, None), strict=True)
        ]

    undisturbed = [answer.wait().tokens for answer in ask_both()]
    disturbed = ask_both(at_token(15))
    assert [answer.end for answer in disturbed] == [Finished("length")] * 2
    assert [answer.tokens for answer in disturbed] == undisturbed
    used: list[float] = []
    ask(
        engine, PROMPT, max_tokens=9, on_token=lambda _: used.append(engine.load().cache.used)
    ).wait()
    assert 0 < max(used) <= 1
    engine.close()


def test_what_loading_raises_is_the_same_in_a_child(tmp_path: Path) -> None:
    snapshot = models.tiny_llama(tmp_path / "broken")
    (snapshot / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
    here = TransformersEngine(
        snapshot,
        EngineSettings("transformers", device="cpu"),
        context_length=models.CONTEXT_LENGTH,
        end_token_ids=(),
    )
    with pytest.raises(BrokenSource) as expected:
        here.start()
    there = ProcessEngine(described(snapshot))
    with pytest.raises(BrokenSource) as raised:
        there.start()
    there.close()
    assert raised.value.message == expected.value.message
    assert children() == []


def test_what_is_cancelled_just_before_the_last_doubt_goes_ends_too() -> None:
    with EchoChild(max_running=1) as child:
        waiting: list[Answer] = []
        again: list[int] = []

        def act(answer: Answer) -> None:
            if not waiting:
                waiting.append(ask(child.engine, PROMPT))
            if len(answer.tokens) == 20:
                kill_child()
            if child.observed.told == ["restarting", "restarted"]:
                again.append(answer.tokens[-1])
                if len(again) == 4:  # with the fourth token the doubt is over
                    child.engine.cancel(waiting[0].id)

        running = ask(child.engine, PROMPT, **ENDLESS, on_token=act)
        assert running.end == Finished("length")
        assert waiting[0].wait().events == [Finished("cancelled")]
