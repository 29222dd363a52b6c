"""`package` in processes of their own that are killed on the way, stopped, or run at once."""

import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from mooring.loading.bundle import open_bundle
from mooring.packaging import artifact, journal, storing, work_folder
from tests.conftest import Store
from tests.models import tiny_llama

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["mooring.api.package", "mlflow.pyfunc", "pytest", "transformers.models.llama.modeling_llama"]
)

END_SECONDS = 120

# Where it dies, and what of the model is there then: nothing, or all of it.
POINTS: dict[str, tuple[object, str, bool]] = {
    "the logged model is made": (MlflowClient, "create_logged_model", True),
    "half of the files are placed": (artifact, "_write_code", False),
    "all files are written": (storing, "_flush", True),
    "the folder has its name": (Path, "rename", True),
    "the logged model is ready": (MlflowClient, "finalize_logged_model", True),
    "the registered model is made": (MlflowClient, "create_registered_model", True),
    "the version is made": (MlflowClient, "create_model_version", True),
    "the alias is set": (MlflowClient, "set_registered_model_alias", True),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("source") / "tiny-llama")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Make a store for one test, and a journal beside it."""
    monkeypatch.setattr(journal, "JOURNAL", tmp_path / "packaging")
    return Store.create(tmp_path)


def package(
    own: Store, source: Path, book: Path, harm: Callable[[], None] | None, alias: str | None
) -> None:
    """Run in the other process: package, after `harm` has prepared its death."""
    journal.JOURNAL = book
    if harm is not None:
        harm()
    own.package(str(source), "tiny", alias=alias)


def started(
    own: Store, source: Path, harm: Callable[[], None] | None = None, alias: str | None = "champion"
) -> BaseProcess:
    arguments = (own, source, journal.JOURNAL, harm, alias)
    process = PROCESSES.Process(target=package, args=arguments)
    process.start()
    return process


class Signalled:
    """Sends its own process a signal before or after a function is called."""

    def __init__(self, point: str, number: int) -> None:
        self.point, self.number = point, number

    def __call__(self) -> None:
        holder, name, afterwards = POINTS[self.point]
        original = getattr(holder, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if not afterwards:
                os.kill(os.getpid(), self.number)
            answer = original(*arguments, **options)
            if afterwards:
                os.kill(os.getpid(), self.number)
            return answer

        setattr(holder, name, call)


def versions_of(own: Store) -> dict[str, str]:
    """Return the logged model of each version, by number."""
    client = MlflowClient(own.tracking_uri, own.tracking_uri)
    found = client.search_model_versions("name = 'tiny'")
    return {str(v.version): v.source.removeprefix("models:/") for v in found}


def logged_models(own: Store) -> dict[str, str]:
    """Return the status of each logged model that is not deleted."""
    client = MlflowClient(own.tracking_uri, own.tracking_uri)
    experiment = client.get_experiment_by_name(own.experiment)
    models = client.search_logged_models([experiment.experiment_id])
    return {model.model_id: str(model.status) for model in models}


def folders(own: Store) -> set[str]:
    return {path.name for path in (own.artifacts / "models").glob("*")}


def check_complete(own: Store, version: str) -> None:
    """Open a version as serving does, and compare every byte with its manifest."""
    open_bundle(f"models:/tiny/{version}", tracking_uri=own.tracking_uri, verify_hashes=True)


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_leaves_nothing_half_and_nothing_for_long(
    own: Store, source: Path, point: str
) -> None:
    process = started(own, source, Signalled(point, signal.SIGKILL))
    process.join(END_SECONDS)
    assert process.exitcode == -signal.SIGKILL
    for final in own.artifacts.glob("models/*/artifacts"):
        assert (final / "MLmodel").is_file()
    for version in versions_of(own):
        check_complete(own, version)

    packaged = own.package(str(source), "tiny", alias="champion")
    done = point == "the alias is set"
    assert packaged.version == ("2" if done else "1")
    assert len(versions_of(own)) == len(logged_models(own)) == len(folders(own)) == 1 + done
    assert set(logged_models(own).values()) == {"READY"}
    assert set(versions_of(own).values()) == set(logged_models(own)) == folders(own)
    assert not list(own.artifacts.rglob(".partial-*"))
    assert list(journal.JOURNAL.iterdir()) == []
    check_complete(own, packaged.version)


def test_one_that_is_stopped_is_not_taken_for_dead(own: Store, source: Path) -> None:
    """It sleeps in the middle while another packages, and then goes on."""
    sleeper = started(own, source, Signalled("all files are written", signal.SIGSTOP), alias=None)
    while psutil.Process(sleeper.pid).status() != psutil.STATUS_STOPPED:
        assert sleeper.exitcode is None
    assert own.package(str(source), "tiny").version == "1"
    assert sorted(logged_models(own).values()) == ["PENDING", "READY"]
    assert sleeper.pid is not None
    os.kill(sleeper.pid, signal.SIGCONT)
    sleeper.join(END_SECONDS)
    assert sleeper.exitcode == 0
    assert set(versions_of(own)) == {"1", "2"}
    for version in versions_of(own):
        check_complete(own, version)


class Together:
    """Waits for the others before it begins."""

    def __init__(self, barrier: Barrier) -> None:
        self.barrier = barrier

    def __call__(self) -> None:
        self.barrier.wait(END_SECONDS)


def test_several_at_once_make_one_version_each(own: Store, source: Path) -> None:
    """The experiment and the registered model are new to all of them."""
    new = Store(own.tracking_uri, own.artifacts, "new")
    barrier = PROCESSES.Barrier(3)
    processes = [started(new, source, Together(barrier), alias=None) for _ in range(3)]
    for process in processes:
        process.join(END_SECONDS)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    versions = versions_of(new)
    assert set(versions) == {"1", "2", "3"}
    assert len(set(versions.values())) == 3
    for version in versions:
        check_complete(new, version)
    assert list(journal.JOURNAL.iterdir()) == []


def hold(parent: Path) -> None:
    """Run in the other process: make a work folder and die in it."""
    with work_folder.work_folder(parent) as folder:
        (folder / "half").write_bytes(bytes(1000))
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_work_folder_whose_owner_was_killed_is_removed_by_the_next(tmp_path: Path) -> None:
    """Conversions and uploads are made in such folders."""
    process = PROCESSES.Process(target=hold, args=(tmp_path,))
    process.start()
    process.join(END_SECONDS)
    (left,) = tmp_path.glob("work-*/half")
    with work_folder.work_folder(tmp_path) as folder, work_folder.work_folder(tmp_path) as other:
        assert not left.exists()
        assert {path for path in tmp_path.iterdir() if path.is_dir()} == {folder, other}
    assert list(tmp_path.iterdir()) == []
