"""From a URI to a verified folder: in place, by every kind of URI, with clear refusals."""

import shutil
from pathlib import Path

import pytest

from mooring.api.package import PackagedModel
from mooring.errors import CorruptArtifact, ModelNotFound
from mooring.loading.bundle import is_uri, open_bundle, read_manifest
from tests.conftest import Store


def test_every_uri_opens_the_same_folder_in_place(demo: PackagedModel, store: Store) -> None:
    uris = ["models:/demo@champion", "models:/demo/1", f"models:/{demo.model_id}"]
    bundles = [open_bundle(uri, tracking_uri=store.tracking_uri) for uri in uris]
    folder = bundles[0].folder
    assert folder.is_relative_to(store.artifacts)
    assert {bundle.folder for bundle in bundles} == {folder}
    assert [(b.name, b.version) for b in bundles] == [("demo", "1"), ("demo", "1"), ("demo", None)]
    assert open_bundle(str(folder)).manifest.digest == demo.digest
    assert open_bundle(folder.as_uri()).folder == folder


def test_opening_writes_nothing_into_the_store(demo: PackagedModel, store: Store) -> None:
    folder = open_bundle(demo.uri, tracking_uri=store.tracking_uri).folder
    (folder / "registered_model_meta").unlink(missing_ok=True)
    before = sorted(folder.rglob("*"))
    open_bundle("models:/demo@champion", tracking_uri=store.tracking_uri)
    assert sorted(folder.rglob("*")) == before


def test_the_manifest_alone_can_be_read(demo: PackagedModel, store: Store) -> None:
    assert read_manifest(demo.uri, tracking_uri=store.tracking_uri).digest == demo.digest


def test_the_callers_tracking_uri_is_left_as_it_was(demo: PackagedModel, tmp_path: Path) -> None:
    import os

    import mlflow

    before = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")
    other = Store.create(tmp_path)
    with pytest.raises(ModelNotFound):
        open_bundle("models:/nothing/1", tracking_uri=other.tracking_uri)
    assert (mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")) == before


@pytest.mark.parametrize("uri", ["models:/nothing/1", "models:/demo@nothing", "models:/demo/77"])
@pytest.mark.usefixtures("demo")
def test_what_is_not_in_the_registry_is_said(store: Store, uri: str) -> None:
    with pytest.raises(ModelNotFound, match=f"MLflow could not find {uri}: .*not found"):
        open_bundle(uri, tracking_uri=store.tracking_uri)


def test_a_folder_that_is_no_packaged_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="must be a folder with an MLmodel file"):
        open_bundle(str(tmp_path))
    (tmp_path / "MLmodel").write_text("artifact_path: model\n")
    with pytest.raises(CorruptArtifact, match="not a model packaged by Mooring"):
        open_bundle(str(tmp_path))


def test_a_flipped_byte_in_the_weights_is_found_when_asked(
    demo: PackagedModel, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(open_bundle(demo.uri, tracking_uri=store.tracking_uri).folder, folder)
    weights = folder / "artifacts/snapshot/model.safetensors"
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    with pytest.raises(CorruptArtifact, match=r"model\.safetensors: sha256 differs"):
        open_bundle(str(folder), verify_hashes=True)
    weights.write_bytes(flipped[:-1])
    with pytest.raises(CorruptArtifact, match=r"model\.safetensors: size differs"):
        open_bundle(str(folder))


def test_uris_are_told_from_folders() -> None:
    assert all(map(is_uri, ["models:/a/1", "runs:/x/y", "s3://b/k", "file:/tmp/x"]))
    assert not any(map(is_uri, ["./a", "/tmp/a", "a", "~/a", "acme/model"]))
