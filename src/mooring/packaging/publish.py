"""Publish an artifact: log it to MLflow, register it, set alias, tags and description.

Everything is undone if a step fails: no half-written folder, no pending or unregistered model.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.packaging.artifact import ArtifactPlan, Lineage, write_artifact
from mooring.packaging.model_card import model_card
from mooring.packaging.placing import Placement
from mooring.packaging.storing import ArtifactStore, Progress
from mooring.registry import (
    check_alias,
    check_model_name,
    check_reachable,
    registry_failure,
    using_tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import Model

Check = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Publication:
    """Where an artifact goes and under which names.

    `name` is the logged model's; without `registered_name` it is logged only. `run_id` links it to
    a run the caller has open. `tracking_uri` None is MLflow's own choice.
    """

    name: str
    registered_name: str | None = None
    alias: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    experiment: str | None = None
    tracking_uri: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """A model in MLflow; `uri` is the one to load it by, `version` the registry's."""

    uri: str
    version: str | None
    mlflow_model: "Model"
    logged_model: "LoggedModel"


def publish(
    plan: ArtifactPlan, publication: Publication, check: Check, progress: Progress
) -> Published:
    """Log, upload once, register, alias and tag; raise `RegistryError` or `NotEnoughSpace`.

    `check` sees the finished folder before anything is uploaded or moved to its final place.
    """
    from mlflow import MlflowClient

    client = MlflowClient(publication.tracking_uri, publication.tracking_uri)
    with (
        registry_failure("publish the model"),
        using_tracking_uri(publication.tracking_uri),
        _undo_on_failure() as undo,
    ):
        logged = _create_logged_model(client, plan, publication)
        undo.append(lambda: _delete_logged_model(client, logged))
        lineage = Lineage(logged.model_id, publication.run_id)

        def write(folder: Path, weights: Placement, placed: Progress) -> "Model":
            model = write_artifact(plan, lineage, folder, weights, placed)
            check(folder)
            return model

        store = ArtifactStore(logged.artifact_location, publication.tracking_uri, plan.weights)
        mlflow_model = store.save(write, progress)
        logged = client.finalize_logged_model(logged.model_id, "READY")
        _link_to_run(client, logged, publication)
        version = _register(client, plan, logged, publication, undo)
    registered = publication.registered_name
    uri = f"models:/{registered}/{version}" if version else f"models:/{logged.model_id}"
    return Published(uri, version, mlflow_model, logged)


Undo = list[Callable[[], object]]


@contextmanager
def _undo_on_failure() -> Iterator[Undo]:
    """Run the undo steps in reverse order if the block fails or is interrupted."""
    undo: Undo = []
    try:
        yield undo
    except BaseException:
        for step in reversed(undo):
            with suppress(Exception):
                step()
        raise


def _create_logged_model(
    client: "MlflowClient", plan: ArtifactPlan, publication: Publication
) -> "LoggedModel":
    facts = plan.manifest.facts
    return client.create_logged_model(
        experiment_id=_experiment_id(client, publication),
        name=logged_model_name(publication.name),
        source_run_id=publication.run_id,
        tags={**_own_tags(plan), **publication.tags},
        params={
            "architecture": facts.architecture,
            "parameters": str(facts.parameters),
            "context_length": str(plan.manifest.context_length),
            "prompt": plan.manifest.prompt.kind,
        },
        model_type="causal-lm",
    )


def logged_model_name(name: str) -> str:
    """Return the name for the logged model, where MLflow refuses dots that it takes elsewhere."""
    return name.replace(".", "-")


def _own_tags(plan: ArtifactPlan) -> dict[str, str]:
    manifest = plan.manifest
    tags = {
        "mooring.source": manifest.origin.name,
        "mooring.commit": manifest.origin.commit,
        "mooring.digest": manifest.digest,
        "mooring.trust_remote_code": str(manifest.trust_remote_code).lower(),
    }
    return {key: value for key, value in tags.items() if value is not None}


def _experiment_id(client: "MlflowClient", publication: Publication) -> str:
    if publication.run_id is not None:
        run_experiment: str = client.get_run(publication.run_id).info.experiment_id
        return run_experiment
    name = publication.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
    experiment = client.get_experiment_by_name(name)
    experiment_id: str = experiment.experiment_id if experiment else client.create_experiment(name)
    return experiment_id


def _link_to_run(client: "MlflowClient", logged: "LoggedModel", publication: Publication) -> None:
    if publication.run_id is not None:
        from mlflow.entities import LoggedModelOutput

        client.log_outputs(publication.run_id, [LoggedModelOutput(logged.model_id, step=0)])


def _register(
    client: "MlflowClient",
    plan: ArtifactPlan,
    logged: "LoggedModel",
    publication: Publication,
    undo: Undo,
) -> str | None:
    name = publication.registered_name
    if name is None:
        return None
    if _create_registered_model(client, name):
        undo.append(lambda: _delete_without_versions(client, name))
    version: str = client.create_model_version(
        name=name,
        source=f"models:/{logged.model_id}",
        run_id=publication.run_id,
        tags={**_own_tags(plan), **publication.tags},
        description=model_card(name, plan.manifest),
        model_id=logged.model_id,
    ).version
    undo.append(lambda: client.delete_model_version(name, version))
    if publication.alias is not None:
        client.set_registered_model_alias(name, publication.alias, version)
    return str(version)


def _create_registered_model(client: "MlflowClient", name: str) -> bool:
    """Create the registered model if it is new; return whether it was."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False
    return True


def _delete_without_versions(client: "MlflowClient", name: str) -> None:
    """Delete a registered model, unless another process has registered a version of it since."""
    if not client.search_model_versions(f"name = '{name}'", max_results=1):
        client.delete_registered_model(name)


def _delete_logged_model(client: "MlflowClient", logged: "LoggedModel") -> None:
    ArtifactStore(logged.artifact_location, None, "share").remove()
    client.finalize_logged_model(logged.model_id, "FAILED")
    client.delete_logged_model(logged.model_id)


def check_publication(publication: Publication) -> None:
    """Raise `RegistryError` for names MLflow will refuse, or if its server does not answer."""
    for name in {publication.name, publication.registered_name or publication.name}:
        check_model_name(name)
    if publication.alias is not None:
        check_alias(publication.alias)
    check_reachable(publication.tracking_uri)
