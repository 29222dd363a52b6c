"""Packaging into a local store, side by side in one run: time, and disk used at the peak.

Three ways bring the same snapshot into the same kind of store: a plain copy with a hash of every
file, MLflow's own `log_model(artifacts=...)`, and Mooring. Disk is the folder's file system, looked
at every 20 ms; bytes shared by hard links count once, as they do on the disk.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save_file

import mooring
from mooring.demo import snapshot_path
from mooring.spec.manifest import sha256_of

SAMPLE_SECONDS = 0.02


class Tutorial(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """What a hand-written deployment logs; its `predict` is never called here."""

    def predict(self, context: object, model_input: list[str]) -> list[str]:
        """Return the input."""
        return model_input


def main() -> None:
    """Measure each way `--runs` times, print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--megabytes", type=int, default=500, help="size of the snapshot")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as scratch:
        rows = measure(Path(scratch), options.megabytes, options.runs)
    show(rows, as_json=options.json)


def measure(scratch: Path, megabytes: int, runs: int) -> list[dict[str, object]]:
    """Return one row per way, each run in a store of its own."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
    snapshot = make_snapshot(scratch / "snapshot", megabytes)
    size = sum(path.stat().st_size for path in snapshot.iterdir())
    ways: dict[str, Callable[[Path], object]] = {
        "copy and hash": partial(copy_and_hash, snapshot),
        "MLflow's log_model": partial(log_with_mlflow, snapshot),
        "mooring.package": partial(package, snapshot),
    }
    results: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name, way in ways.items():
            folder = Path(tempfile.mkdtemp(dir=scratch))  # MLflow remembers stores by path
            prepare_store(folder)
            with peak_disk(scratch) as peak:
                began = time.perf_counter()
                way(folder)
                seconds = time.perf_counter() - began
            if run > 0:  # the first run warms up
                results[name].append((seconds, peak[0]))
            shutil.rmtree(folder)
    return [row(name, size, measured) for name, measured in results.items()]


def row(name: str, size: int, measured: list[tuple[float, int]]) -> dict[str, object]:
    """Return the medians of one way."""
    seconds, extra = (sorted(values)[len(values) // 2] for values in zip(*measured, strict=True))
    return {
        "way": name,
        "megabytes": round(size / 1e6),
        "seconds": round(seconds, 2),
        "peak_extra_disk": f"{extra / size:.1%}",
    }


def make_snapshot(folder: Path, megabytes: int) -> Path:
    """Write the demo model's folder with weights of the wanted size added."""
    shutil.copytree(snapshot_path(), folder)
    values = np.random.default_rng(0).standard_normal(megabytes * 250_000, dtype=np.float32)
    (folder / "model.safetensors").unlink()
    save_file({"transformer.wte.weight": values}, folder / "model.safetensors")
    return folder


def prepare_store(folder: Path) -> None:
    """Make an empty tracking store in `folder` MLflow's current one."""
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("bench", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("bench")


def copy_and_hash(snapshot: Path, folder: Path) -> None:
    """Copy every file and hash it."""
    shutil.copytree(snapshot, folder / "copy")
    for path in snapshot.iterdir():
        sha256_of(path)


def log_with_mlflow(snapshot: Path, folder: Path) -> None:
    """Log the folder as an artifact of a python model."""
    mlflow.pyfunc.log_model(
        name="model",
        python_model=Tutorial(),
        artifacts={"snapshot": str(snapshot)},
        pip_requirements=["mlflow"],
        registered_model_name="model",
    )


def package(snapshot: Path, folder: Path) -> None:
    """Package the folder with Mooring."""
    mooring.package(mooring.ModelSpec(source=str(snapshot)), name="model", experiment="bench")


@contextmanager
def peak_disk(folder: Path) -> Iterator[list[int]]:
    """Yield a list whose one value becomes the most disk that was used beyond the start."""
    start = shutil.disk_usage(folder).used
    peak = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            peak[0] = max(peak[0], shutil.disk_usage(folder).used - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def show(rows: list[dict[str, object]], *, as_json: bool) -> None:
    """Print the rows."""
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table(title="Packaging into a local store, medians", title_justify="left")
    for column in ("way", "MB", "seconds", "extra disk at the peak"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for values in rows:
        table.add_row(*map(str, values.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
