"""Package a model: from a source to a registered, ready MLflow model."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import mooring
from mooring.api.conversion import Asked, conversions, require_means_to_convert
from mooring.api.golden import golden_answers
from mooring.api.smoke_test import smoke_test
from mooring.api.watching import Silent, Watcher
from mooring.errors import BrokenSource, MissingDependency, NotEnoughMemory
from mooring.generation import Golden
from mooring.loading.light_tokenizer import find_reading
from mooring.machine import read_machine
from mooring.packaging.artifact import ArtifactPlan
from mooring.packaging.conversion import weight_formats
from mooring.packaging.default_choice import choose_defaults
from mooring.packaging.golden_precision import choose_golden_precision
from mooring.packaging.inspection import inspect_snapshot
from mooring.packaging.plan import (
    UNSTATED_CONTEXT,
    expected_conversion,
    make_plan,
    with_conversions,
)
from mooring.packaging.prompt_choice import choose_prompt_format
from mooring.packaging.publish import (
    Publication,
    Published,
    check_publication,
    check_space,
    publish,
)
from mooring.packaging.requirements import find_requirements, require_serving_packages
from mooring.packaging.snapshot import Snapshot, fetch_snapshot
from mooring.spec.facts import ModelFacts
from mooring.spec.manifest import Manifest, SnapshotFile, sha256_of
from mooring.spec.model_spec import ModelSpec
from mooring.spec.prompt import PromptFormat
from mooring.spec.tokenizer import TokenizerReading

if TYPE_CHECKING:
    from mlflow.models.model import ModelInfo


@dataclass(frozen=True, slots=True)
class PackageOptions:
    """How to package: what MLflow is told of inputs, how weights come into a local store.

    `smoke_test` generates a few tokens from the finished artifact before it is published; `golden`
    keeps a few greedy tokens of plain transformers in it, which engines must agree with.
    `optimize` names conversions to put beside the snapshot: `openvino:int8`, `openvino:int4`,
    `openvino:fp16`. They need golden tokens, which are then made without asking.
    """

    signature: Literal["open", "columns"] = "open"
    weights: Literal["share", "copy"] = "share"
    smoke_test: bool = False
    golden: bool = False
    optimize: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A packaged model: `uri` loads it, `size_bytes` and `seconds` say what it took."""

    uri: str
    model_id: str
    name: str
    version: str | None
    alias: str | None
    digest: str
    prompt: str
    context_length: int
    size_bytes: int
    seconds: float
    plan: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def package(
    spec: ModelSpec,
    *,
    name: str,
    alias: str | None = None,
    tags: Mapping[str, str] | None = None,
    experiment: str | None = None,
    tracking_uri: str | None = None,
    options: PackageOptions | None = None,
    watcher: Watcher | None = None,
) -> PackagedModel:
    """Package `spec` as one MLflow model, register it as `name` and return where it is.

    Nothing is generated unless `options` ask for a smoke test or golden tokens, and nothing is
    left behind if a step fails. Raises a `MooringError` that says what to do.

    >>> mooring.package(mooring.ModelSpec(source="demo"), name="demo", alias="champion")
    """
    began = time.monotonic()
    publication = Publication(name, name, alias, tags or {}, experiment, tracking_uri)
    work = _Packaging(spec, publication, options or PackageOptions(), watcher or Silent())
    published = work.run()
    manifest = work.manifest
    return PackagedModel(
        uri=published.uri,
        model_id=published.logged_model.model_id,
        name=name,
        version=published.version,
        alias=alias,
        digest=manifest.digest,
        prompt=manifest.prompt.kind,
        context_length=manifest.context_length,
        size_bytes=manifest.size,
        seconds=round(time.monotonic() - began, 3),
        plan=work.plan_line,
    )


def log_model(
    spec: ModelSpec,
    name: str,
    *,
    registered_model_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    options: PackageOptions | None = None,
    watcher: Watcher | None = None,
) -> "ModelInfo":
    """Log `spec` as a model of the MLflow run that is open now, as MLflow's own flavors do.

    Without an open run the model stands alone. Returns MLflow's `ModelInfo`.
    """
    import mlflow

    run = mlflow.active_run()
    publication = Publication(
        name=name,
        registered_name=registered_model_name,
        tags=tags or {},
        run_id=run.info.run_id if run else None,
    )
    work = _Packaging(spec, publication, options or PackageOptions(), watcher or Silent())
    published = work.run()
    model_info = published.mlflow_model.get_model_info(published.logged_model)
    model_info.registered_model_version = published.version
    return model_info


class _Packaging:
    """One run of the line: fetch, inspect, hash, publish."""

    def __init__(
        self,
        spec: ModelSpec,
        publication: Publication,
        options: PackageOptions,
        watcher: Watcher,
    ) -> None:
        self._spec = spec
        self._publication = publication
        self._options = options
        self._watcher = watcher
        self._formats = weight_formats(options.optimize)
        self.manifest: Manifest
        self.plan_line = ""

    def run(self) -> Published:
        check_publication(self._publication)
        require_serving_packages(self._spec.requirements)
        self._watcher.stage(f"Fetching {self._spec.source}")
        snapshot = fetch_snapshot(self._spec, show_progress=self._watcher.show_downloads)
        facts = inspect_snapshot(snapshot, trust_remote_code=self._spec.trust_remote_code)
        size = sum((snapshot.path / name).stat().st_size for name in snapshot.files)
        check_space(self._publication, snapshot.path, size, self._options.weights)
        self._show_plan(facts)
        described = self._describe(snapshot, facts)
        asked = Asked(snapshot.path, described, self._formats)
        with conversions(asked, self._watcher) as made:
            self.manifest = described.model_copy(
                update={"conversions": tuple(one.conversion for one in made)}
            )
            artifact = ArtifactPlan(
                self._publication.name,
                self.manifest,
                snapshot.path,
                self._options.signature,
                self._options.weights,
                {one.conversion.name: one.folder for one in made},
            )
            self._watcher.stage("Writing the artifact", self.manifest.size)
            return publish(
                artifact, self._publication, self._check, self._watcher.advance, self._watcher.note
            )

    def _show_plan(self, facts: ModelFacts) -> None:
        machine = read_machine()
        expected = None if machine.gpus else expected_conversion(facts, self._formats)
        plan = make_plan(facts, machine, dtype=self._spec.dtype, converted=expected)
        if self._formats:
            plan = with_conversions(plan, facts, self._formats)
        self.plan_line = plan.line()
        self._watcher.note(self.plan_line)
        if self._formats:
            require_means_to_convert(plan)

    def _describe(self, snapshot: Snapshot, facts: ModelFacts) -> Manifest:
        context_length = facts.context_length or UNSTATED_CONTEXT
        prompt = choose_prompt_format(snapshot.path, self._spec)
        defaults = choose_defaults(snapshot.path, self._spec, context_length)
        requirements = find_requirements(
            snapshot, facts, self._spec.requirements, converted=bool(self._formats)
        )
        golden = self._make_golden(snapshot, facts, prompt, context_length)
        return Manifest(
            mooring_version=mooring.__version__,
            origin=snapshot.origin,
            facts=facts,
            context_length=context_length,
            prompt=prompt,
            defaults=defaults,
            dtype=self._spec.dtype,
            trust_remote_code=self._spec.trust_remote_code,
            requirements=requirements,
            files=self._hash_files(snapshot),
            golden=golden,
            tokenizer=self._read_tokenizer(snapshot),
        )

    def _read_tokenizer(self, snapshot: Snapshot) -> TokenizerReading | None:
        trusts = self._spec.trust_remote_code
        try:
            reading = find_reading(snapshot.path, trust_remote_code=trusts)
        except MissingDependency:
            reading = None
        if reading is None:
            self._watcher.note("This tokenizer needs transformers wherever the model is served.")
        return reading

    def _make_golden(
        self, snapshot: Snapshot, facts: ModelFacts, prompt: PromptFormat, context_length: int
    ) -> Golden | None:
        if not (self._options.golden or self._formats):
            return None
        try:
            chosen = choose_golden_precision(facts, read_machine())
            self._watcher.stage("Asking plain transformers for golden tokens")
            golden = golden_answers(
                snapshot.path, prompt,
                context_length=context_length, precision=chosen.precision,
                trust_remote_code=self._spec.trust_remote_code,
            )  # fmt: skip
        except (BrokenSource, MissingDependency, NotEnoughMemory) as error:
            if self._formats:
                raise
            self._watcher.note(f"Without golden tokens: {error.message}")
            return None
        self._watcher.note(f"Golden tokens in {golden.precision}: {chosen.reason}.")
        return golden

    def _hash_files(self, snapshot: Snapshot) -> tuple[SnapshotFile, ...]:
        sizes = {name: (snapshot.path / name).stat().st_size for name in snapshot.files}
        self._watcher.stage("Hashing", sum(sizes.values()))
        files = []
        for name, size in sizes.items():
            digest = sha256_of(snapshot.path / name, self._watcher.advance)
            if snapshot.published_sha256(name) not in (None, digest):
                raise BrokenSource(
                    f"{name} must have the hash that the hub published, and does not: the download "
                    "is damaged. Remove the file from the hub cache and package again."
                )
            files.append(SnapshotFile(path=name, size=size, sha256=digest))
        return tuple(files)

    def _check(self, folder: Path) -> None:
        if self._options.smoke_test:
            self._watcher.stage("Asking the finished model for a few tokens")
            smoke_test(folder)


__all__ = ["PackageOptions", "PackagedModel", "log_model", "package"]
