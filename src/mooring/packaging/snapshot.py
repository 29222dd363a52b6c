"""From a source as a person names it to a local folder of checked files at a fixed commit."""

import os
from dataclasses import dataclass
from pathlib import Path

from mooring import demo
from mooring.errors import (
    BrokenSource,
    HubUnreachable,
    InvalidInput,
    SourceNotFound,
    UnsafeSource,
)
from mooring.packaging import hub
from mooring.packaging.contents import WEIGHTS_INDEX, check_names, supporting_files, weight_files
from mooring.packaging.json_file import read_object
from mooring.packaging.trust import refuse_untrusted
from mooring.spec.manifest import Origin
from mooring.spec.model_spec import DEMO_SOURCE, ModelSpec

_SHA256_CHARACTERS = 64


@dataclass(frozen=True)
class Snapshot:
    """A model on this machine: `files` below `path` are what belongs into the artifact."""

    path: Path
    origin: Origin
    files: tuple[str, ...]

    def published_sha256(self, file: str) -> str | None:
        """Return the hash under which the hub published a file, where the cache knows it."""
        blob = (self.path / file).resolve()
        named_by_hash = blob.parent.name == "blobs" and len(blob.name) == _SHA256_CHARACTERS
        return blob.name if self.origin.kind == "hub" and named_by_hash else None


def fetch_snapshot(spec: ModelSpec, *, show_progress: bool) -> Snapshot:
    """Bring the model to this machine if it is not here, weights last.

    Raises `SourceNotFound`, `BrokenSource`, `UnsafeSource`, `HubUnreachable` or `NotEnoughSpace`.
    """
    local = local_snapshot(spec)
    if local is not None:
        return local
    try:
        model = hub.find_model(spec.source, spec.revision)
    except HubUnreachable as unreachable:
        return cached_snapshot(spec, unreachable)
    folder, supporting = fetch_supporting_files(spec, model, show_progress=show_progress)
    weights = weight_files(model.sizes, lambda: read_object(folder / WEIGHTS_INDEX))
    hub.download(model, weights, show_progress=show_progress)
    return Snapshot(folder, _hub_origin(spec, model.commit), tuple(sorted({*supporting, *weights})))


def local_snapshot(spec: ModelSpec) -> Snapshot | None:
    """Return the snapshot of `demo` or a folder, or None where the source is a hub id."""
    source = spec.source
    if source == DEMO_SOURCE:
        folder, origin = _demo_folder(), Origin(kind="demo", name=DEMO_SOURCE)
    elif source.startswith(("/", "./", "../", "~")) or os.path.isdir(source):
        folder = _folder(os.path.expanduser(source))
        origin = Origin(kind="folder", name=folder.name)
    else:
        return None
    if spec.revision is not None:
        raise InvalidInput(
            f"`revision` belongs to hub ids only. Given: {spec.revision!r} for {source!r}. "
            "Leave --revision out.",
            param="revision",
        )
    return _collect(folder, origin, spec)


def cached_snapshot(spec: ModelSpec, unreachable: HubUnreachable) -> Snapshot:
    """Return the snapshot that the hub cache holds whole; raise `unreachable` if it does not."""
    folder = hub.cached_folder(spec.source, spec.revision)
    if folder is None:
        raise unreachable
    try:
        return _collect(folder, _hub_origin(spec, folder.name), spec)
    except BrokenSource:
        raise unreachable from None


def fetch_supporting_files(
    spec: ModelSpec, model: hub.HubModel, *, show_progress: bool
) -> tuple[Path, tuple[str, ...]]:
    """Download all but the weights, and refuse an untrusted model before those follow.

    Returns the folder and the names that belong into the artifact.
    """
    supporting = supporting_files(model.sizes, code=spec.trust_remote_code)
    check_names(supporting)
    index = (WEIGHTS_INDEX,) if WEIGHTS_INDEX in model.sizes else ()
    folder = hub.download(model, (*supporting, *index), show_progress=show_progress)
    refuse_untrusted(folder, trust_remote_code=spec.trust_remote_code)
    return folder, supporting


def _demo_folder() -> Path:
    folder = demo.snapshot_path()
    if not folder.is_dir():  # a packaged model's own copy of Mooring, loaded in its place
        raise SourceNotFound(
            "The demo model comes with an installed Mooring, not with the copy inside a packaged "
            "model that this process uses. Import mooring before loading a model with MLflow."
        )
    return folder


def _folder(path: str) -> Path:
    if not os.path.isdir(path):
        raise SourceNotFound(f"The source folder must exist. Given: {path[:200]}. Check the path.")
    return Path(path).resolve()


def _hub_origin(spec: ModelSpec, commit: str) -> Origin:
    return Origin(kind="hub", name=spec.source, revision=spec.revision, commit=commit)


def _collect(folder: Path, origin: Origin, spec: ModelSpec) -> Snapshot:
    names = _names(folder, code=spec.trust_remote_code)
    supporting = supporting_files(names, code=spec.trust_remote_code)
    weights = weight_files(names, lambda: read_object(folder / WEIGHTS_INDEX))
    files = tuple(sorted({*supporting, *weights}))
    check_names(files)
    for name in files:
        _refuse_escape(folder, name)
    return Snapshot(folder, origin, files)


def _names(folder: Path, *, code: bool) -> list[str]:
    """List what a model may consist of, not the whole tree: the folder may be a home directory."""
    paths = {*folder.glob("*"), *folder.glob("*/*.safetensors")}
    if code:
        paths.update(folder.rglob("*.py"))
    return [path.relative_to(folder).as_posix() for path in paths if path.is_file()]


def _refuse_escape(folder: Path, name: str) -> None:
    """A hub cache links its files to blobs beside the snapshots; no other link may leave."""
    target = (folder / name).resolve()
    allowed = [folder]
    if folder.parent.name == "snapshots":
        allowed.append(folder.parent.parent / "blobs")
    if not any(target.is_relative_to(root.resolve()) for root in allowed):
        raise UnsafeSource(
            f"Files must lie below the model folder. Given: {name}, a link to {target}. "
            "Replace the link by the file itself."
        )
