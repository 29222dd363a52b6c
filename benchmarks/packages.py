"""Packages for benchmarks, in a store of their own."""

import os
from pathlib import Path

import mooring
from mooring.api.package import PackageOptions
from mooring.loading.bundle import Bundle, open_bundle


def packaged(
    source: str, folder: Path, optimize: tuple[str, ...] = (), *, own_code: bool = False
) -> Bundle:
    """Package `source` into a store in `folder`; a folder shares its weights.

    A package that is there with the conversions asked for is taken again.
    """
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    import mlflow

    folder.mkdir(parents=True, exist_ok=True)
    store = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(store)
    if mlflow.get_experiment_by_name("bench") is None:
        mlflow.create_experiment("bench", artifact_location=(folder / "artifacts").as_uri())
    name = Path(source).name
    for version in mlflow.MlflowClient().search_model_versions(f"name='{name}'"):
        bundle = open_bundle(f"models:/{name}/{version.version}", tracking_uri=store)
        if set(optimize) <= {conversion.name for conversion in bundle.manifest.conversions}:
            return bundle
    package = mooring.package(
        mooring.ModelSpec(source=source, trust_remote_code=own_code),
        name=name,
        experiment="bench",
        tracking_uri=store,
        options=PackageOptions(optimize=optimize),
    )
    return open_bundle(package.uri, tracking_uri=store)
