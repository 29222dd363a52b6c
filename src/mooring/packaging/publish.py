"""Publish an artifact: log it to MLflow, register it, set alias, tags and description."""

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.packaging.artifact import ArtifactPlan, Lineage, write_artifact
from mooring.packaging.journal import (
    ID_TAG,
    Entry,
    all_or_nothing,
    store_name,
    take_back_abandoned,
)
from mooring.packaging.model_card import model_card
from mooring.packaging.placing import Placement, Progress
from mooring.packaging.retrying import Note, Retrying, retrying
from mooring.packaging.storing import ArtifactStore
from mooring.registry import (
    check_alias,
    check_model_name,
    check_reachable,
    registry_failure,
    using_tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, LoggedModel
    from mlflow.entities.model_registry import ModelVersion
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
    plan: ArtifactPlan, publication: Publication, check: Check, progress: Progress, note: Note
) -> Published:
    """Log, upload once, register, alias and tag; raise `RegistryError` or `NotEnoughSpace`.

    `check` sees the finished folder before anything is uploaded or moved to its final place. `note`
    is told of each request that is made again.
    """
    from mlflow import MlflowClient

    client = MlflowClient(publication.tracking_uri, publication.tracking_uri)
    with (
        using_tracking_uri(publication.tracking_uri),
        retrying(note) as retry,
        registry_failure("publish the model"),
    ):
        store = store_name(client.tracking_uri)
        take_back_abandoned(client, store, note)
        experiment = retry("find the experiment", lambda: _experiment(client, publication))
        parts, size = plan.parts(), sum(size for _, size in plan.parts())
        ArtifactStore(experiment.artifact_location, weights=plan.weights).require_space(parts)
        entry = Entry(
            uuid.uuid4().hex,
            store,
            experiment.experiment_id,
            publication.registered_name,
            retry("look for the registered model", lambda: _is_new_name(client, publication)),
            publication.alias,
        )
        with all_or_nothing(client, entry, note), registry_failure("publish the model"):
            logged = retry(
                "create the logged model",
                lambda: _create_logged_model(client, plan, publication, entry),
                found=lambda: entry.logged_model(client),
            )
            lineage = Lineage(logged.model_id, publication.run_id)

            def write(folder: Path, weights: Placement, placed: Progress) -> "Model":
                model = write_artifact(plan, lineage, folder, weights, placed)
                check(folder)
                return model

            place = ArtifactStore(logged.artifact_location, publication.tracking_uri, plan.weights)
            mlflow_model = place.save(write, size, retry, progress)
            logged = retry(
                "set the logged model READY",
                lambda: client.finalize_logged_model(logged.model_id, "READY"),
            )
            _link_to_run(client, logged, publication, retry)
            version = _register(client, plan, logged, publication, entry, retry)
    registered = publication.registered_name
    uri = f"models:/{registered}/{version}" if version else f"models:/{logged.model_id}"
    return Published(uri, version, mlflow_model, logged)


def _create_logged_model(
    client: "MlflowClient", plan: ArtifactPlan, publication: Publication, entry: Entry
) -> "LoggedModel":
    facts = plan.manifest.facts
    return client.create_logged_model(
        experiment_id=entry.experiment_id,
        name=logged_model_name(publication.name),
        source_run_id=publication.run_id,
        tags={**_own_tags(plan), **publication.tags, ID_TAG: entry.id},
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


def _experiment(client: "MlflowClient", publication: Publication) -> "Experiment":
    """Return the experiment to log into, made if there is none."""
    from mlflow.exceptions import MlflowException

    experiment = _known_experiment(client, publication)
    if experiment is None:
        try:
            return client.get_experiment(client.create_experiment(_experiment_name(publication)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(_experiment_name(publication))
    return experiment


def _known_experiment(client: "MlflowClient", publication: Publication) -> "Experiment | None":
    if publication.run_id is not None:
        return client.get_experiment(client.get_run(publication.run_id).info.experiment_id)
    return client.get_experiment_by_name(_experiment_name(publication))


def _experiment_name(publication: Publication) -> str:
    return publication.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"


def _link_to_run(
    client: "MlflowClient", logged: "LoggedModel", publication: Publication, retry: Retrying
) -> None:
    run_id = publication.run_id
    if run_id is not None:
        from mlflow.entities import LoggedModelOutput

        output = LoggedModelOutput(logged.model_id, step=0)
        retry("link the logged model to its run", lambda: client.log_outputs(run_id, [output]))


def _register(
    client: "MlflowClient",
    plan: ArtifactPlan,
    logged: "LoggedModel",
    publication: Publication,
    entry: Entry,
    retry: Retrying,
) -> str | None:
    name = publication.registered_name
    if name is None:
        return None
    retry("create the registered model", lambda: _create_registered_model(client, name))

    def create_version() -> "ModelVersion":
        return client.create_model_version(
            name=name,
            source=f"models:/{logged.model_id}",
            run_id=publication.run_id,
            tags={**_own_tags(plan), **publication.tags},
            description=model_card(name, plan.manifest),
            model_id=logged.model_id,
        )

    def earlier_version() -> "ModelVersion | None":
        return next(iter(entry.versions(client, logged.model_id)), None)

    version = str(retry("create the version", create_version, earlier_version).version)
    alias = publication.alias
    if alias is not None:
        retry("set the alias", lambda: client.set_registered_model_alias(name, alias, version))
    return version


def _is_new_name(client: "MlflowClient", publication: Publication) -> bool:
    from mlflow.exceptions import MlflowException

    if publication.registered_name is None:
        return False
    try:
        client.get_registered_model(publication.registered_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return True
    return False


def _create_registered_model(client: "MlflowClient", name: str) -> None:
    """Create the registered model unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def check_publication(publication: Publication) -> None:
    """Raise `RegistryError` for names MLflow will refuse, or if its server does not answer."""
    for name in {publication.name, publication.registered_name or publication.name}:
        check_model_name(name)
    if publication.alias is not None:
        check_alias(publication.alias)
    check_reachable(publication.tracking_uri)


def check_space(publication: Publication, source: Path, size: int, weights: Placement) -> None:
    """Raise `NotEnoughSpace` if a local store has no room for `size` bytes from `source`.

    For before the long work: an experiment that is not there yet has no place to look at.
    """
    from mlflow import MlflowClient

    client = MlflowClient(publication.tracking_uri, publication.tracking_uri)
    with registry_failure("find the experiment"):
        experiment = _known_experiment(client, publication)
    if experiment is not None:
        store = ArtifactStore(experiment.artifact_location, weights=weights)
        store.require_space([(source, size)])
