"""All or nothing: what a packaging does in MLflow is taken back if it fails or is killed.

It is written down before MLflow is asked for anything. So whoever packages next into the same store
finds what a process has left that was killed, or could not reach the server any more.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.errors import RegistryError
from mooring.packaging.retrying import Note
from mooring.packaging.storing import ArtifactStore
from mooring.packaging.work_folder import CACHE_FOLDER, abandoned, claimed_folder, discard
from mooring.registry import one_request_each

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

JOURNAL = CACHE_FOLDER / "packaging"
ID_TAG = "mooring.packaging"

_PAGE = "entry.json"
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One packaging: where, the tag `id` of its logged model, and what it registers.

    `new_name` says that it makes the registered model as well.
    """

    id: str
    store: str
    experiment_id: str
    registered_name: str | None
    new_name: bool
    alias: str | None

    def logged_model(self, client: "MlflowClient") -> "LoggedModel | None":
        """Find the logged model; one that is deleted counts as none."""
        models = client.search_logged_models(
            [self.experiment_id], filter_string=f"tags.`{ID_TAG}` = '{self.id}'"
        )
        return models[0] if models else None

    def versions(self, client: "MlflowClient", model_id: str) -> "list[ModelVersion]":
        """Find the versions of the logged model, the oldest first."""
        if self.registered_name is None:
            return []
        found = client.search_model_versions(
            f"name = '{self.registered_name}' and source_path = 'models:/{model_id}'"
        )
        return sorted(found, key=lambda version: int(version.version))


def store_name(tracking_uri: str) -> str:
    """Return a name that no other store has: paths in a tracking URI may be relative."""
    return tracking_uri if "://" in tracking_uri[:8] else f"{Path.cwd()} {tracking_uri}"


@contextmanager
def all_or_nothing(client: "MlflowClient", entry: Entry, note: Note) -> Iterator[None]:
    """Take back in MLflow what the block did under `entry` if it fails or is interrupted.

    A `RegistryError` then says so. Where the store does not let it, the next packaging does it.
    """
    with claimed_folder(JOURNAL) as folder:
        (folder / _PAGE).write_text(json.dumps(asdict(entry)))
        try:
            yield
        except BaseException as error:
            if not _can_take_back(client, entry):
                note(
                    "What was begun cannot be taken back now. The next `mooring package` of this "
                    "user for that store does it first."
                )
                raise
            discard(folder)
            if isinstance(error, RegistryError):
                raise type(error)(f"{error.message} Nothing was registered.") from None
            raise
        discard(folder)


def take_back_abandoned(client: "MlflowClient", store: str, note: Note) -> None:
    """Take back what packagings have left in this store whose process is gone."""
    for folder in abandoned(JOURNAL):
        entry = _read(folder)
        if entry is None:  # it was killed before it asked for anything
            discard(folder)
        elif entry.store == store and _can_take_back(client, entry, unless_done=True):
            note("Took back what a packaging had left that did not come to its end.")
            discard(folder)


def _read(folder: Path) -> Entry | None:
    try:
        return Entry(**json.loads((folder / _PAGE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _can_take_back(client: "MlflowClient", entry: Entry, *, unless_done: bool = False) -> bool:
    """Take back what is there, and say whether nothing is left to do."""
    with suppress(Exception), one_request_each(_ANSWER_SECONDS):
        model = entry.logged_model(client)
        if not (unless_done and model is not None and _is_done(client, entry, model)):
            _take_back(client, entry, model)
        return True
    return False


def _is_done(client: "MlflowClient", entry: Entry, model: "LoggedModel") -> bool:
    """Say whether only the note that all is done is missing; an alias may be another by now."""
    if model.status != "READY" or entry.registered_name is None:
        return bool(model.status == "READY")
    versions = {str(version.version) for version in entry.versions(client, model.model_id)}
    if not versions or entry.alias is None:
        return bool(versions)
    aliases = client.get_registered_model(entry.registered_name).aliases  # no search returns them
    return not versions.isdisjoint(map(str, aliases.values()))


def _take_back(client: "MlflowClient", entry: Entry, model: "LoggedModel | None") -> None:
    if model is not None:
        for version in entry.versions(client, model.model_id):
            client.delete_model_version(version.name, version.version)
    if entry.new_name and entry.registered_name is not None:
        _delete_without_versions(client, entry.registered_name)
    if model is not None:
        ArtifactStore(model.artifact_location).remove()
        client.finalize_logged_model(model.model_id, "FAILED")
        client.delete_logged_model(model.model_id)


def _delete_without_versions(client: "MlflowClient", name: str) -> None:
    """Delete a registered model, unless another process has registered a version of it since."""
    from mlflow.exceptions import MlflowException

    if client.search_model_versions(f"name = '{name}'", max_results=1):
        return
    try:
        client.delete_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
