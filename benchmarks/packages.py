"""Packages for benchmarks, in a store of their own."""

import os
from pathlib import Path

import mooring
from mooring.loading.bundle import Bundle, open_bundle


def packaged(source: str, scratch: Path) -> Bundle:
    """Package `source` into a store in `scratch`; a folder shares its weights."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    import mlflow

    store = f"sqlite:///{scratch}/mlflow.db"
    mlflow.set_tracking_uri(store)
    if mlflow.get_experiment_by_name("bench") is None:
        mlflow.create_experiment("bench", artifact_location=(scratch / "artifacts").as_uri())
    spec = mooring.ModelSpec(source=source)
    package = mooring.package(spec, name=Path(source).name, experiment="bench", tracking_uri=store)
    return open_bundle(package.uri, tracking_uri=store)
