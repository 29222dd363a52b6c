"""A model in this process: many threads, streams that can be left, an end that frees everything."""

import threading
import time

import pytest

from mooring.api.load import load
from mooring.api.package import PackagedModel
from mooring.errors import ContextExceeded, EngineStopped, InvalidInput, NotEnoughMemory
from mooring.settings import EngineSettings
from tests.doors.answers import ANSWERS, FIRST, QUESTIONS


def test_closing_frees_every_thread_and_refuses_more(demo: PackagedModel) -> None:
    before = threading.active_count()
    model = load(demo.uri)
    assert model.predict(FIRST) == [ANSWERS[FIRST]]
    model.close()
    model.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before + 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [t.name for t in threading.enumerate() if t.name in ("engine", "mooring-model")]
    with pytest.raises(EngineStopped, match="The model is closed"):
        model.predict(FIRST)


def test_closing_fails_what_still_runs(demo: PackagedModel) -> None:
    model = load(demo.uri)
    failures: list[BaseException] = []
    started = threading.Event()

    def ask() -> None:
        try:
            for _ in model.stream(FIRST, {"ignore_eos": True}):
                started.set()
        except EngineStopped as error:
            failures.append(error)

    caller = threading.Thread(target=ask)
    caller.start()
    assert started.wait(30)
    model.close()
    caller.join(10)
    assert len(failures) == 1


def test_a_stream_left_early_is_cancelled(demo: PackagedModel) -> None:
    with load(demo.uri) as model:
        stream = model.stream(FIRST, {"ignore_eos": True})
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        service = model._running.service
        deadline = time.monotonic() + 5
        while service.load.running and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (service.load.running, service.load.waiting) == (0, 0)
        assert model._running.service.activity.sequences == 0


def test_one_bad_row_stops_the_call_before_anything_is_generated(demo: PackagedModel) -> None:
    with load(demo.uri) as model:
        service = model._running.service
        steps = service.load.steps
        with pytest.raises(ContextExceeded, match=r"row 1: "):
            model.predict([FIRST, "x " * 3000])
        assert service.load.steps == steps


def test_streaming_takes_one_row(demo: PackagedModel) -> None:
    with load(demo.uri) as model, pytest.raises(InvalidInput, match="Given: 2 rows, n = 1"):
        model.stream(QUESTIONS[:2])


def test_the_echo_engine_answers_through_the_same_doors(demo: PackagedModel) -> None:
    with load(demo.uri, engine=EngineSettings(name="echo")) as model:
        assert "What is machine learning?" in model.predict(FIRST)[0]


def test_a_shorter_context_is_kept(demo: PackagedModel) -> None:
    with load(demo.uri, engine=EngineSettings(context_length=64)) as model:
        assert model.predict(FIRST) == [ANSWERS[FIRST]]
        with pytest.raises(ContextExceeded, match="fewer than 64 tokens"):
            model.predict(QUESTIONS[2] * 8)


def test_what_cannot_fit_is_refused_before_loading(
    demo: PackagedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mooring.api.load as loading
    from mooring.machine import Machine

    small = Machine(10**6, 10**6, 10**9, (), native_bfloat16=True)
    monkeypatch.setattr(loading, "read_machine", lambda: small)
    monkeypatch.setattr(loading, "start_service", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(NotEnoughMemory, match=r"1\.0 MB are free on cpu"):
        load(demo.uri)
