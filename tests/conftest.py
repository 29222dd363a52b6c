"""What many tests share: a store of their own and the demo model packaged in it."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import mooring
from mooring.api.package import PackagedModel
from tests.processes import BIN, server

os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"


@dataclass(frozen=True)
class Store:
    """A sqlite tracking store with an artifact folder, away from the working directory."""

    tracking_uri: str
    artifacts: Path
    experiment: str = "tests"

    @classmethod
    def create(cls, folder: Path) -> "Store":
        """Make a store in `folder`, from the tables of an empty one: MLflow takes seconds."""
        from mlflow import MlflowClient

        store = cls(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
        shutil.copyfile(_empty_database(), folder / "mlflow.db")
        MlflowClient(store.tracking_uri).create_experiment(
            store.experiment, artifact_location=store.artifacts.as_uri()
        )
        return store

    def package(self, source: str, name: str, **values: object) -> PackagedModel:
        """Package into this store; `values` go to the spec, `alias` to the registry."""
        alias = values.pop("alias", None)
        return mooring.package(
            mooring.ModelSpec.model_validate({"source": source, **values}),
            name=name,
            alias=None if alias is None else str(alias),
            experiment=self.experiment,
            tracking_uri=self.tracking_uri,
        )


@contextmanager
def tracking_server(folder: Path, port: int) -> Iterator[str]:
    """Run a tracking server with its database and its artifacts (`served`) in `folder`."""
    shutil.copyfile(_empty_database(), folder / "server.db")
    command = [
        BIN / "mlflow", "server", "--port", port, "--workers", 1,
        "--backend-store-uri", f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination", folder / "served", "--serve-artifacts",
    ]  # fmt: skip
    quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    url = f"http://127.0.0.1:{port}"
    with server(command, f"{url}/health", environment=quick):
        yield url


@cache
def _empty_database() -> Path:
    from mlflow import MlflowClient

    database = Path(tempfile.mkdtemp(prefix="mooring-tests-")) / "empty.db"
    atexit.register(shutil.rmtree, database.parent)
    MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Make one store for the whole run, and MLflow's current one."""
    import mlflow

    store = Store.create(tmp_path_factory.mktemp("store"))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store.tracking_uri)
    os.environ["MLFLOW_TRACKING_URI"] = store.tracking_uri
    yield store
    del os.environ["MLFLOW_TRACKING_URI"]
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="session")
def demo(store: Store) -> PackagedModel:
    """Package the demo model, with the alias champion."""
    return store.package("demo", "demo", alias="champion")
