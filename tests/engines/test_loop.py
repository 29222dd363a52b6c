"""The engine's thread does all of an engine's work."""

import threading

import pytest

from mooring.engines.contract import Capabilities
from mooring.engines.echo import EchoEngine
from mooring.engines.sequence import Sequence
from mooring.errors import BrokenSource, EngineStopped
from tests.engines.driving import ask


class Witness(EchoEngine):
    """Remembers which thread did what."""

    def __init__(self) -> None:
        super().__init__()
        self.did: dict[str, threading.Thread] = {}

    def _open(self) -> Capabilities:
        self.did["open"] = threading.current_thread()
        return super()._open()

    def _step(self, joining: list[Sequence]) -> None:
        self.did["step"] = threading.current_thread()
        super()._step(joining)

    def _free(self) -> None:
        self.did["free"] = threading.current_thread()
        super()._free()


def test_one_thread_opens_steps_and_frees() -> None:
    engine = Witness()
    engine.start()
    ask(engine, [7, 8], max_tokens=2).wait()
    engine.close()
    assert set(engine.did) == {"open", "step", "free"}
    [thread] = set(engine.did.values())
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


class Broken(EchoEngine):
    """Cannot be opened."""

    def _open(self) -> Capabilities:
        raise BrokenSource("Torn.")


def test_what_opening_raises_is_raised_by_start() -> None:
    engine = Broken()
    with pytest.raises(BrokenSource, match="Torn"):
        engine.start()
    with pytest.raises(EngineStopped):
        ask(engine, [7])


class Slow(Witness):
    """Is open when told."""

    def __init__(self) -> None:
        super().__init__()
        self.opening, self.may_open = threading.Event(), threading.Event()

    def _open(self) -> Capabilities:
        self.opening.set()
        self.may_open.wait()
        return super()._open()


def test_closed_while_it_opens_it_is_freed_and_never_runs() -> None:
    engine = Slow()
    raised: list[EngineStopped] = []

    def start() -> None:
        with pytest.raises(EngineStopped) as caught:
            engine.start()
        raised.append(caught.value)

    starting = threading.Thread(target=start)
    starting.start()
    engine.opening.wait()
    engine.close()
    engine.may_open.set()
    starting.join()
    assert len(raised) == 1
    assert set(engine.did) == {"open", "free"}
