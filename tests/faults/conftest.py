"""What fault tests share: an engine around a model that does harm when told, and a clean end."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mooring.engines.description import EngineDescription
from mooring.engines.process import ProcessEngine
from mooring.settings import EngineSettings
from tests import models
from tests.engines.process.children import Observed, children
from tests.faults.reef import disarm, reef


class Sufferer:
    """A process engine around Reef, and what its observer is told."""

    def __init__(self, snapshot: Path) -> None:
        self.snapshot = snapshot
        self.observed = Observed()
        self.engine = ProcessEngine(
            EngineDescription(
                snapshot=str(snapshot),
                context_length=models.CONTEXT_LENGTH,
                vocabulary_size=models.VOCABULARY_SIZE,
                settings=EngineSettings("transformers", "cpu", "float32", max_running=4),
                trust_remote_code=True,
                end_token_ids=(models.END,),
            ),
            self.observed,
        )


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """Write a Reef for one test."""
    return reef(tmp_path / "reef")


@pytest.fixture
def clean() -> Iterator[None]:
    """Compare threads, descriptors and children after a test with those before it."""
    before = _held()
    yield
    assert _held() == before


def _held() -> tuple[list[str], int, int]:
    this = psutil.Process()
    threads = sorted(thread.name for thread in threading.enumerate())
    return threads, this.num_fds(), len(this.children(recursive=True))


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sufferer]:
    """One engine for all tests of a file, which must survive them all."""
    sufferer = Sufferer(reef(tmp_path_factory.mktemp("lasting") / "reef"))
    sufferer.engine.start()
    (child,) = children()
    yield sufferer
    assert children() == [child]
    assert sufferer.observed.told == []
    sufferer.engine.close()


@pytest.fixture
def sufferer(lasting: Sufferer, clean: None) -> Iterator[Sufferer]:
    """The lasting engine, before and after a test without work, harm or anything new."""
    yield lasting
    disarm(lasting.snapshot)
    load = lasting.engine.load()
    assert (load.running, load.waiting) == (0, 0)


@pytest.fixture
def mortal(snapshot: Path, clean: None) -> Iterator[Sufferer]:
    """An engine for one test, started, whose child may die."""
    sufferer = Sufferer(snapshot)
    sufferer.engine.start()
    yield sufferer
    load = sufferer.engine.load()
    assert (load.running, load.waiting) == (0, 0)
    sufferer.engine.close()
    assert children() == []
