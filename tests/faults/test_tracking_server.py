"""Packaging into a real tracking server that fails before, while and after it is asked."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

import mooring
from mooring.api.package import PackagedModel
from mooring.api.watching import Silent
from mooring.errors import RegistryError, RegistryUnreachable
from mooring.packaging import artifact, journal, storing
from tests.conftest import tracking_server
from tests.faults.weather import Forecast, Proxy, Weather, always_fair, proxy_before
from tests.models import tiny_llama
from tests.processes import BIN, free_port

EXPERIMENT = "exposed"
UPLOADS = "/api/2.0/mlflow-artifacts/artifacts"
LOGGED = "/api/2.0/mlflow/logged-models"
MODELS = "/api/2.0/mlflow/registered-models"
VERSIONS = "/api/2.0/mlflow/model-versions/create"


class Notes(Silent):
    """Keeps the lines that a person would see."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    @property
    def retries(self) -> list[str]:
        return [line for line in self.lines if "Trying again" in line]


@dataclass(frozen=True)
class Site:
    """A tracking server of its own and the proxy before it."""

    proxy: Proxy
    direct: MlflowClient
    files: Path
    source: Path
    notes: Notes

    def package(self, name: str, alias: str | None = None) -> PackagedModel:
        return mooring.package(
            mooring.ModelSpec(source=str(self.source)),
            name=name,
            alias=alias,
            experiment=EXPERIMENT,
            tracking_uri=self.proxy.url,
            watcher=self.notes,
        )

    def left(self, name: str) -> tuple[list[str], list[str], list[str]]:
        """Return states of logged models, versions and files that are there under a name."""
        models = self.direct.search_logged_models(self.experiments, f"name = '{name}'")
        versions = self.direct.search_model_versions(f"name = '{name}'")
        files = [
            path.name
            for model in (m for m in self.files.rglob("m-*") if m.is_dir())
            for path in model.rglob("*")
            if path.is_file() and model.name not in self.kept
        ]
        return (
            [str(model.status) for model in models],
            [str(version.version) for version in versions],
            files,
        )

    @property
    def kept(self) -> set[str]:
        """Ids of the models that are there, of any name."""
        return {model.model_id for model in self.direct.search_logged_models(self.experiments)}

    @property
    def experiments(self) -> list[str]:
        return [self.direct.get_experiment_by_name(EXPERIMENT).experiment_id]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path, Path]]:
    """Run a tracking server that keeps the artifacts too, and make a model."""
    folder = tmp_path_factory.mktemp("tracking")
    port = free_port()
    with tracking_server(folder, port) as url:
        MlflowClient(url, url).create_experiment(EXPERIMENT)
        yield port, folder / "served", tiny_llama(folder / "tiny-llama")


@pytest.fixture
def site(
    running: tuple[int, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    port, files, source = running
    monkeypatch.setattr(journal, "JOURNAL", tmp_path / "packaging")
    monkeypatch.setattr(storing, "STAGING", tmp_path / "uploads")
    monkeypatch.setattr(artifact, "_write_code", without_mooring)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with proxy_before(port) as proxy:
        direct = MlflowClient(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}")
        yield Site(proxy, direct, files, source, Notes())


def without_mooring(folder: Path) -> None:
    """Leave out the copy of Mooring: hundreds of files, when these tests need some."""
    (folder / artifact.MODEL_CODE_FILE).touch()


def on(method: str, start: str, *weathers: Weather) -> Forecast:
    """Let the first requests to these paths have this weather, the last of it for ever."""
    left, lock = list(weathers), threading.Lock()

    def forecast(seen: str, path: str) -> Weather:
        if seen != method or not path.startswith(start):
            return "fair"
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return forecast


def test_a_server_that_answers_with_errors_is_found_out_before_any_work(site: Site) -> None:
    site.proxy.forecast = lambda method, path: 500
    with pytest.raises(RegistryUnreachable, match="tracking server answers with status 500"):
        site.package("early")
    assert len(site.proxy.seen) == 1


def test_a_server_that_wants_a_name_says_which_variables_hold_it(site: Site) -> None:
    site.proxy.forecast = lambda method, path: 401
    with pytest.raises(RegistryError, match=r"status 401\. Set MLFLOW_TRACKING_USERNAME") as caught:
        site.package("early")
    assert not caught.value.retryable
    assert len(site.proxy.seen) == 1


def test_what_passes_is_tried_again_in_plain_sight(site: Site) -> None:
    """Errors, a lost connection and lost answers, at each step once: one version comes of it."""
    bad: list[tuple[Forecast, str]] = [
        (on("GET", "/api/2.0/mlflow/experiments/get-by-name", "fair", 503, "fair"), "experiment"),
        (on("POST", LOGGED, "lose the answer", "fair"), "create the logged model"),
        (on("PUT", UPLOADS, 500, "refuse", "lose the answer", "fair"), "upload"),
        (on("PATCH", LOGGED, "lose the answer", "fair"), "READY"),
        (on("POST", f"{MODELS}/create", "lose the answer", "fair"), "create the registered model"),
        (on("POST", VERSIONS, "lose the answer", "fair"), "create the version"),
        (on("POST", f"{MODELS}/alias", 504, "fair"), "alias"),
    ]  # fmt: skip

    def forecast(method: str, path: str) -> Weather:
        weathers = [at(method, path) for at, _ in bad]
        return next((weather for weather in weathers if weather != "fair"), "fair")

    site.proxy.forecast = forecast
    assert site.package("stormy", alias="champion").uri == "models:/stormy/1"
    assert site.left("stormy") == (["READY"], ["1"], [])
    assert str(site.direct.get_model_version_by_alias("stormy", "champion").version) == "1"
    retries = site.notes.retries
    assert len(retries) == 9, retries
    for _, step in bad:
        assert any(step in line and "attempt 2 of 2" in line for line in retries), step


@pytest.mark.parametrize(
    ("weather", "error", "said"),
    [
        (500, RegistryUnreachable, "answers with status 500. Try again. Nothing was registered."),
        (413, RegistryError, "answers with status 413. Raise the limit for bodies in that server"),
        ("refuse", RegistryUnreachable, "does not answer. Try again. Nothing was registered."),
    ],
)
def test_an_upload_that_fails_says_how_far_it_came(
    site: Site, weather: Weather, error: type[RegistryError], said: str
) -> None:
    name = f"half-{weather}"
    nine_pass: list[Weather] = ["fair"] * 9
    site.proxy.forecast = on("PUT", UPLOADS, *nine_pass, weather)
    with pytest.raises(error, match=r"upload failed after 9 of \d+ files, at \w+") as caught:
        site.package(name)
    assert said in caught.value.message
    assert type(caught.value) is error
    assert bool(site.notes.retries) == caught.value.retryable
    assert site.left(name) == ([], [], [])
    site.proxy.forecast = always_fair
    assert site.package(name).uri == f"models:/{name}/1"


def test_a_server_that_hangs_is_given_up_after_seconds(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    site.proxy.forecast = on("POST", VERSIONS, "hang")
    with pytest.raises(RegistryUnreachable, match="does not answer") as caught:
        site.package("hung")
    assert caught.value.message.endswith("Nothing was registered.")
    assert len(site.notes.retries) == 1
    assert site.left("hung") == ([], [], [])


def test_what_cannot_be_taken_back_now_is_so_the_next_time(site: Site) -> None:
    """The server is gone from the moment all is uploaded until the command is run again."""
    gone = threading.Event()

    def forecast(method: str, path: str) -> Weather:
        if path == VERSIONS:
            gone.set()
        return "refuse" if gone.is_set() else "fair"

    site.proxy.forecast = forecast
    with pytest.raises(RegistryUnreachable) as caught:
        site.package("lost")
    assert "Nothing was registered" not in caught.value.message
    assert "The next `mooring package` of this user" in site.notes.lines[-1]
    assert site.left("lost") == (["READY"], [], [])
    site.proxy.forecast = always_fair
    assert site.package("lost").uri == "models:/lost/1"
    assert any(line.startswith("Took back what a packaging") for line in site.notes.lines)
    assert site.left("lost") == (["READY"], ["1"], [])


def test_an_upload_can_be_interrupted(site: Site, tmp_path: Path) -> None:
    """The real command, and the real signal, while uploads hang."""
    hanging = threading.Event()

    def forecast(method: str, path: str) -> Weather:
        if method == "PUT" and path.startswith(UPLOADS):
            hanging.set()
            return "hang"
        return "fair"

    site.proxy.forecast = forecast
    command = [BIN / "mooring", "package", site.source, "--name", "interrupted", "--no-golden"]
    with subprocess.Popen(
        [*map(str, command), "--experiment", EXPERIMENT, "--tracking-uri", site.proxy.url],
        env={**os.environ, "HOME": str(tmp_path), "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert hanging.wait(120)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "Error: Interrupted."
    assert site.left("interrupted") == ([], [], [])
    assert not list((tmp_path / ".cache/mooring").glob("*/work-*"))
