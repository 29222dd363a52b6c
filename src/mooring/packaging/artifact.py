"""Lay out the MLflow model folder: everything but the weights is written, weights are linked."""

import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import mooring
from mooring.packaging.model_card import model_card
from mooring.packaging.placing import Placement, Progress, place_file
from mooring.packaging.signature import INPUT_COLUMNS, build_signature
from mooring.settings import EngineSettings
from mooring.spec.manifest import MANIFEST_PATH, SNAPSHOT_FOLDER, Manifest

if TYPE_CHECKING:
    from mlflow.models import Model

MODEL_CODE_FILE = "mooring_model.py"
CODE_FOLDER = "code"
MODEL_CARD_FILE = "README.md"
ENGINE_KEYS = (
    "name", "device", "dtype", "conversion", "context_length", "max_running", "cache_bytes",
    "prefix_cache", "prompt_lookup",
)  # fmt: skip
"""What `model_config` may say when MLflow loads the model: MLflow drops what is not listed here."""

INPUT_EXAMPLE = {"prompt": ["What is machine learning?"]}


@dataclass(frozen=True, slots=True)
class ArtifactPlan:
    """What goes into one artifact: the manifest, the folder its files come from, and its name.

    `signature` is what MLflow is told of inputs, `weights` how they come into a local store.
    `converted` are the folders that the files of the manifest's conversions come from, by name.
    """

    name: str
    manifest: Manifest
    source: Path
    signature: Literal["open", "columns"] = "open"
    weights: Placement = "share"
    converted: Mapping[str, Path] = field(default_factory=dict)

    def parts(self) -> list[tuple[Path, int]]:
        """Return each folder that files come from, with the bytes that come from it."""
        sizes = [(self.source, sum(file.size for file in self.manifest.files))]
        for conversion in self.manifest.conversions:
            size = sum(file.size for file in conversion.files)
            sizes.append((self.converted[conversion.name], size))
        return sizes


@dataclass(frozen=True, slots=True)
class Lineage:
    """The MLflow entities that an artifact belongs to."""

    model_id: str
    run_id: str | None


def write_artifact(
    plan: ArtifactPlan, lineage: Lineage, folder: Path, weights: Placement, placed: Progress
) -> "Model":
    """Write the whole model folder, snapshot files placed as `weights` says.

    `folder` must not exist yet. Returns the MLflow model as written to `MLmodel`.
    """
    placing = [(plan.source, folder / SNAPSHOT_FOLDER, plan.manifest.files)]
    for conversion in plan.manifest.conversions:
        source = plan.converted[conversion.name]
        placing.append((source, folder / conversion.folder, conversion.files))
    for source, target, files in placing:
        for file in files:
            place_file(source / file.path, target / file.path, weights)
            placed(file.size)
    plan.manifest.write(folder / MANIFEST_PATH)
    _write_code(folder)
    _write_environment(folder, plan.manifest.requirements)
    (folder / MODEL_CARD_FILE).write_text(model_card(plan.name, plan.manifest), encoding="utf-8")
    return _write_mlmodel(plan, lineage, folder)


def _write_code(folder: Path) -> None:
    package = Path(mooring.__file__).parent
    shutil.copyfile(package / "loading" / "pyfunc.py", folder / MODEL_CODE_FILE)
    shutil.copytree(
        package,
        folder / CODE_FOLDER / "mooring",
        ignore=shutil.ignore_patterns("__pycache__", "*.jsonl", "model", "model.partial"),
    )


def _write_environment(folder: Path, requirements: tuple[str, ...]) -> None:
    import yaml

    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements))
    python, pip = platform.python_version(), version("pip")
    _dump = yaml.safe_dump
    (folder / "python_env.yaml").write_text(
        _dump(
            {
                "python": python,
                "build_dependencies": [f"pip=={pip}"],
                "dependencies": ["-r requirements.txt"],
            },
            sort_keys=False,
        )
    )
    (folder / "conda.yaml").write_text(
        _dump(
            {
                "channels": ["conda-forge"],
                "dependencies": [f"python={python}", f"pip<={pip}", {"pip": list(requirements)}],
                "name": "mlflow-env",
            },
            sort_keys=False,
        )
    )


def _write_mlmodel(plan: ArtifactPlan, lineage: Lineage, folder: Path) -> "Model":
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import Model
    from mlflow.models.utils import _save_example

    manifest = plan.manifest
    model = Model(
        artifact_path=plan.name,
        run_id=lineage.run_id,
        model_uuid=lineage.model_id,
        model_id=lineage.model_id,
        signature=build_signature(manifest.defaults, plan.signature),
        metadata={"mooring": {"columns": INPUT_COLUMNS, "digest": manifest.digest}},
    )
    mlflow.pyfunc.add_to_model(
        model,
        loader_module="mlflow.pyfunc.loaders.code_model",
        code=CODE_FOLDER,
        conda_env="conda.yaml",
        python_env="python_env.yaml",
        model_code_path=MODEL_CODE_FILE,
        streamable=True,
        model_config={key: getattr(EngineSettings(), key) for key in ENGINE_KEYS},
        artifacts={
            "manifest": {"path": MANIFEST_PATH, "uri": MANIFEST_PATH},
            "snapshot": {"path": SNAPSHOT_FOLDER, "uri": SNAPSHOT_FOLDER},
            **{c.name: {"path": c.folder, "uri": c.folder} for c in manifest.conversions},
        },
    )
    model.add_flavor("mooring", version=manifest.mooring_version, manifest=MANIFEST_PATH)
    model.model_size_bytes = manifest.size
    _save_example(model, pd.DataFrame(INPUT_EXAMPLE), str(folder))
    model.save(str(folder / "MLmodel"))
    return model
