"""Upload an artifact file by file, several at once, and say how far it came if it fails."""

from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from mooring.errors import MooringError, RegistryError, RegistryUnreachable
from mooring.packaging.placing import Progress
from mooring.packaging.retrying import Retrying
from mooring.registry import advice, server_failure

UPLOADS_AT_ONCE = 8

# Below it lie the files of the snapshot and of its conversions; the manifest lies in it.
_ARTIFACTS = "artifacts/"


def upload_folder(
    folder: Path, location: str, tracking_uri: str | None, retry: Retrying, progress: Progress
) -> None:
    """Bring all files of `folder` to `location`; raise `RegistryError` with how many are there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    largest = max(file.stat().st_size for file in files)

    def upload(file: Path) -> int:
        """Upload one file; return its size if it is one of the manifest's, else 0."""
        below = file.parent.relative_to(folder).as_posix()
        retry(
            f"upload {file.name}",
            lambda: _upload(file, location, None if below == "." else below, tracking_uri),
        )
        return file.stat().st_size if below.startswith(_ARTIFACTS) else 0

    with retry.time_to_upload(largest), ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
        uploads = {pool.submit(upload, file): file for file in files}
        try:
            for done in as_completed(uploads):
                progress(done.result())
        except BaseException as error:
            retry.give_up()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, Exception):
                raise _how_far(uploads, error) from None
            raise


def _upload(file: Path, location: str, below: str | None, tracking_uri: str | None) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(location, tracking_uri=tracking_uri)
    repository.log_artifact(str(file), below)


def _how_far(uploads: "dict[Future[int], Path]", error: Exception) -> Exception:
    """Return `error` with how far the upload came, unless it is none of the store's."""
    if isinstance(error, MooringError | ImportError):
        return error
    ended = {upload: upload.exception() for upload in uploads if not upload.cancelled()}
    file = next(uploads[upload] for upload, failure in ended.items() if failure is error)
    complete = sum(failure is None for failure in ended.values())
    where = (
        f"The upload failed after {complete} of {len(uploads)} files, at {file.name} "
        f"({file.stat().st_size / 1e6:,.1f} MB):"
    )
    reason = server_failure(error)
    if reason is None:
        said = str(error).strip().partition("\n")[0]
        return RegistryError(f"{where} {type(error).__name__}: {said[:300]}")
    kind = RegistryUnreachable if reason.passing else RegistryError
    return kind(f"{where} the tracking server {reason}. {advice(reason)}")
