"""Bring an artifact folder to where MLflow keeps it: in place, or uploaded from its source."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mooring.packaging.placing import Placement, disk_full

if TYPE_CHECKING:
    from mlflow.models import Model

UPLOADS_AT_ONCE = 8

# Below it lie the files of the snapshot and of its conversions; the manifest lies in it.
_ARTIFACTS = "artifacts/"

Progress = Callable[[int], None]
Write = Callable[[Path, Placement, Progress], "Model"]
"""Writes the whole artifact into a folder that does not exist yet."""


@dataclass(frozen=True, slots=True)
class ArtifactStore:
    """The place MLflow gave one logged model, a local folder or a remote URI.

    `weights` says how snapshot files come into a local folder.
    """

    location: str
    tracking_uri: str | None
    weights: Placement

    def save(self, write: Write, progress: Progress) -> "Model":
        """Have the artifact written and bring it to its place; nothing is left if that fails."""
        try:
            final = self._local_folder()
            return (
                self._upload(write, progress)
                if final is None
                else self._move(write, final, progress)
            )
        except OSError as error:
            raise disk_full(error, self._local_folder() or Path.cwd()) from None

    def remove(self) -> None:
        """Remove what was saved, where the store is a local folder."""
        folder = self._local_folder()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
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
        partial = final.with_name(f".partial-{final.name}-{os.getpid()}")
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            model = write(partial, self.weights, progress)
            if final.is_dir():  # MLflow may have made the empty folder already
                final.rmdir()
            partial.rename(final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return model

    def _upload(self, write: Write, progress: Progress) -> "Model":
        """Upload file by file, several at once, snapshot files through links to where they are."""
        with TemporaryDirectory(prefix="mooring-") as scratch:
            staged = Path(scratch) / "model"
            model = write(staged, "point", lambda _: None)
            files = sorted(path for path in staged.rglob("*") if path.is_file())
            with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
                uploads = [pool.submit(self._upload_file, staged, file) for file in files]
                try:
                    for upload in as_completed(uploads):
                        progress(upload.result())
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        return model

    def _upload_file(self, staged: Path, file: Path) -> int:
        """Upload one file; return its size if it is one of the manifest's, else 0."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository = get_artifact_repository(self.location, tracking_uri=self.tracking_uri)
        below = file.parent.relative_to(staged).as_posix()
        repository.log_artifact(str(file), None if below == "." else below)
        return file.stat().st_size if below.startswith(_ARTIFACTS) else 0
