"""Bring an artifact folder to where MLflow keeps it: in place, or uploaded from its source."""

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.errors import MooringError, RegistryError
from mooring.packaging.placing import Placement, Progress, disk_full, require_space
from mooring.packaging.retrying import Retrying
from mooring.packaging.uploading import upload_folder
from mooring.packaging.work_folder import CACHE_FOLDER, work_folder

if TYPE_CHECKING:
    from mlflow.models import Model

STAGING = CACHE_FOLDER / "uploads"

# A filesystem writes down what many wait for at once; one by one it takes seconds.
_FLUSHES_AT_ONCE = 16

Write = Callable[[Path, Placement, Progress], "Model"]
"""Writes the whole artifact into a folder that does not exist yet."""


@dataclass(frozen=True, slots=True)
class ArtifactStore:
    """The place MLflow gave one logged model or an experiment, a local folder or a remote URI.

    `weights` says how snapshot files come into a local folder.
    """

    location: str
    tracking_uri: str | None = None
    weights: Placement = "share"

    def require_space(self, parts: Sequence[tuple[Path, int]]) -> None:
        """Raise `NotEnoughSpace` where the store is a folder without room; see `placing`."""
        folder = self._local_folder()
        if folder is not None:
            require_space(folder, parts, self.weights)

    def save(self, write: Write, size: int, retry: Retrying, progress: Progress) -> "Model":
        """Have the artifact of `size` bytes written and bring it to its place.

        In a local folder nothing is left if that fails.
        """
        final = self._local_folder()
        try:
            if final is None:
                return self._upload(write, retry, progress)
            return self._move(write, final, progress)
        except OSError as error:
            raise _cannot_store(error, final or STAGING, size) from None

    def remove(self) -> None:
        """Remove what was saved, and what an interrupted `save` has left."""
        folder = self._local_folder()
        if folder is None:
            self._remove_uploads()
            return
        for path in (folder, _partial(folder)):
            shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()

    def _local_folder(self) -> Path | None:
        from mlflow.utils.file_utils import local_file_uri_to_path
        from mlflow.utils.uri import is_local_uri

        if not is_local_uri(self.location, is_tracking_or_registry_uri=False):
            return None
        return Path(local_file_uri_to_path(self.location))

    def _move(self, write: Write, final: Path, progress: Progress) -> "Model":
        """Write beside the final place and rename, so that the final path is absent or complete."""
        partial = _partial(final)
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            model = write(partial, self.weights, progress)
            _flush(partial)
            if final.is_dir():  # MLflow may have made the empty folder already
                final.rmdir()
            partial.rename(final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return model

    def _upload(self, write: Write, retry: Retrying, progress: Progress) -> "Model":
        """Upload from a folder that links to where the snapshot files are."""
        with work_folder(STAGING) as scratch:
            staged = scratch / "model"
            model = write(staged, "point", lambda _: None)
            upload_folder(staged, self.location, self.tracking_uri, retry, progress)
        return model

    def _remove_uploads(self) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # Not every store can delete; what stays there belongs to no model.
        with suppress(Exception):
            get_artifact_repository(
                self.location, tracking_uri=self.tracking_uri
            ).delete_artifacts()


def _partial(final: Path) -> Path:
    return final.with_name(f".partial-{final.name}")


def _flush(folder: Path) -> None:
    """Have all files on the disk before their folder gets its name: a name survives power cuts."""
    with ThreadPoolExecutor(_FLUSHES_AT_ONCE) as pool:
        list(pool.map(_flush_one, (*folder.rglob("*"), folder)))


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_store(error: OSError, folder: Path, size: int) -> MooringError | OSError:
    full = disk_full(error, folder, size)
    if full is not None or error.strerror is None:
        return full or error
    return RegistryError(
        f"The artifact cannot be put into {folder}: {error.strerror}. "
        "Change that or choose another store."
    )
