"""From a model URI to a verified folder here, copying nothing where the store is local."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mooring.errors import InvalidInput, ModelNotFound
from mooring.registry import check_reachable, registry_failure, using_tracking_uri
from mooring.spec.manifest import MANIFEST_PATH, SNAPSHOT_FOLDER, Conversion, Manifest

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

# `Path.expanduser` raises where there is no home.
CACHE_FOLDER = Path(os.path.expanduser("~/.cache/mooring/bundles"))


@dataclass(frozen=True, slots=True)
class Bundle:
    """A packaged model on this machine; `name` and `version` are the registry's where known."""

    folder: Path
    manifest: Manifest
    name: str
    version: str | None
    created: int

    @property
    def snapshot(self) -> Path:
        """The folder with weights, tokenizer and configuration."""
        return self.folder / SNAPSHOT_FOLDER

    def converted(self, conversion: Conversion) -> Path:
        """Return the folder of one of its conversions."""
        return self.folder / conversion.folder


def open_bundle(
    uri: str,
    *,
    tracking_uri: str | None = None,
    cache: Path = CACHE_FOLDER,
    verify_hashes: bool = False,
) -> Bundle:
    """Return the bundle behind a folder, `models:/name@alias`, `models:/name/1`, `runs:/` or other
    artifact URI.

    A local store is used in place. A remote artifact is downloaded once into `cache` and verified
    in full. Raises `ModelNotFound`, `RegistryUnreachable` or `CorruptArtifact`.
    """
    if not is_uri(uri):
        return open_folder(Path(uri).expanduser(), verify_hashes=verify_hashes)
    _check_uri(uri)
    check_reachable(tracking_uri)
    with registry_failure(f"find {uri}"), using_tracking_uri(tracking_uri):
        repository, name, version = _repository(uri)
        folder = _local_folder(repository) or _download(repository, cache)
    return open_folder(folder, name=name, version=version, verify_hashes=verify_hashes)


def _check_uri(uri: str) -> None:
    """Raise `InvalidInput` for the likely slip of a name without version or alias."""
    name = uri.removeprefix("models:/")
    if uri.startswith("models:/") and not {"@", "/"} & set(name) and not name.startswith("m-"):
        raise InvalidInput(
            f"A registered model needs a version or an alias. Given: {uri}. "
            f"Write {uri}@ALIAS or {uri}/VERSION."
        )


def is_uri(text: str) -> bool:
    """Whether `text` is an artifact URI rather than a folder."""
    return "://" in text or text.startswith(("models:", "runs:", "mlflow-artifacts:", "file:"))


def read_manifest(uri: str, *, tracking_uri: str | None = None) -> Manifest:
    """Return only the manifest of a packaged model: no weights are downloaded."""
    if not is_uri(uri):
        return Manifest.read(Path(uri).expanduser() / MANIFEST_PATH)
    check_reachable(tracking_uri)
    with (
        registry_failure(f"find {uri}"),
        using_tracking_uri(tracking_uri),
        TemporaryDirectory() as scratch,
    ):
        repository, _, _ = _repository(uri)
        folder = _local_folder(repository)
        if folder is not None:
            return Manifest.read(folder / MANIFEST_PATH)
        return Manifest.read(Path(repository.download_artifacts(MANIFEST_PATH, scratch)))


def open_folder(
    folder: Path,
    *,
    name: str | None = None,
    version: str | None = None,
    verify_hashes: bool = False,
) -> Bundle:
    """Return the bundle in an artifact folder after checking its files against the manifest."""
    import yaml

    try:
        described = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
        created = int((folder / "MLmodel").stat().st_mtime)
    except (OSError, yaml.YAMLError):
        raise ModelNotFound(
            f"A packaged model must be a folder with an MLmodel file. Given: {folder}. "
            "Package one with `mooring package`, or give a URI such as models:/NAME@ALIAS."
        ) from None
    manifest = Manifest.read(folder / MANIFEST_PATH)
    manifest.verify(folder, hashes=verify_hashes)
    return Bundle(folder, manifest, name or described["artifact_path"], version, created)


def _repository(uri: str) -> "tuple[ArtifactRepository, str | None, str | None]":
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
    from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

    if uri.startswith("models:"):
        found = ModelsArtifactRepository(uri)
        version = None if found.model_version is None else str(found.model_version)
        return found.repo, found.model_name, version
    if uri.startswith(("http:", "https:")):
        raise InvalidInput(
            f"A packaged model cannot be read from a web address. Given: {uri[:200]}. "
            "Give models:/NAME@ALIAS and its server with --tracking-uri."
        )
    if uri.startswith("runs:"):
        return get_artifact_repository(RunsArtifactRepository.get_underlying_uri(uri)), None, None
    return get_artifact_repository(uri), None, None


def _local_folder(repository: "ArtifactRepository") -> Path | None:
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    uri = repository.artifact_uri
    if not is_local_uri(uri, is_tracking_or_registry_uri=False):
        return None
    return Path(local_file_uri_to_path(uri))


def _download(repository: "ArtifactRepository", cache: Path) -> Path:
    """Download beside the final place and rename, so that a cached bundle is always whole."""
    final = cache / hashlib.sha256(repository.artifact_uri.encode()).hexdigest()[:32]
    if final.is_dir():
        return final
    partial = final.with_name(f".partial-{final.name}-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        repository.download_artifacts("", str(partial))
        Manifest.read(partial / MANIFEST_PATH).verify(partial, hashes=True)
        if not final.is_dir():  # another process may have been faster
            partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final
