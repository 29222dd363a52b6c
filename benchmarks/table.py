"""The table of docs/benchmarks.md: every way to generate that is here, side by side in one run.

    python -m benchmarks.table --models S --folder ~/bench-models --output table.json

Models are written and packaged where they are not there yet. Each way runs in a process of its own,
all loaded at once, one round of each after the other. `--scenarios` and `--ways` measure a part,
and `--merge` puts the parts together; parts measured apart are compared within each part only.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks.models import MODELS, OWN_CODE, write_model
from benchmarks.packages import packaged
from benchmarks.rivals import RivalTarget
from benchmarks.served import ServedTarget
from benchmarks.tables import Part, markdown, plot
from rich.console import Console
from rich.progress import Progress

from mooring.bench.engine_target import EngineTarget, Restarts
from mooring.bench.measuring import measure
from mooring.bench.target import Target
from mooring.bench.work import Scenario, work_list
from mooring.engines.contract import Engine
from mooring.loading.bundle import Bundle
from mooring.loading.start import engine_of
from mooring.settings import EngineSettings

VOCABULARY_SIZE = 32_000
MOORING = Path(sys.executable).with_name("mooring")
TRANSFORMERS = Path(sys.executable).with_name("transformers")
# Why its continuous batching is not measured with some models.
NOT_FOR_TRANSFORMERS = {
    "M": "gives wrong tokens for MPT",
    "R": "fails with attention that a model brings along",
}


@dataclass(frozen=True)
class Place:
    """Where the model is: its folder, and its package, with a conversion where OpenVINO is here."""

    snapshot: Path
    bundle: Bundle
    scratch: Path


def main() -> None:
    """Measure what the command line names, print the table, write JSON and picture if asked."""
    options = parse_arguments()
    if options.merge:
        parts = [Part(**part) for path in options.merge for part in json.loads(path.read_text())]
    else:
        with tempfile.TemporaryDirectory(dir=options.folder, prefix=".table-") as scratch:
            parts = [measure_model(name, options, Path(scratch)) for name in options.models]
    if options.output:
        options.output.write_text(json.dumps([vars(part) for part in parts], indent=1) + "\n")
    if options.plot:
        plot(parts, options.plot)
    sys.stdout.write(markdown(parts))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("bench-models"))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--ways", nargs="+", help=f"of: {', '.join(WAYS)}; all if not given")
    parser.add_argument("--scenarios", nargs="+", help="by their names; all if not given")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="an eighth of every length")
    parser.add_argument("--output", type=Path, help="write JSON here")
    parser.add_argument("--plot", type=Path, help="draw a PNG here")
    parser.add_argument("--merge", nargs="+", type=Path, help="only show these JSON files")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    return options


def measure_model(name: str, options: argparse.Namespace, scratch: Path) -> Part:
    """Measure one model every way that is here, and say which ways are left out."""
    snapshot = write_model(name, options.folder)
    ways = options.ways or list(WAYS)
    converted = find_spec("openvino_genai") and any("openvino" in way for way in ways)
    optimize = ("openvino:int8",) if converted else ()
    bundle = packaged(
        str(snapshot), options.folder / "packages", optimize, own_code=name in OWN_CODE
    )
    place = Place(snapshot, bundle, scratch)
    targets, left_out = [], []
    for way in ways:
        target = WAYS[way](place)
        if isinstance(target, str):
            left_out.append(f"{way}: {target}")
        else:
            targets.append(target)
    scenarios = chosen(options)
    with drawn() as progress:
        report = measure(
            targets, scenarios, runs=options.runs, vocabulary_size=VOCABULARY_SIZE,
            progress=progress,
        )  # fmt: skip
    return Part(name, os.cpu_count() or 0, options.quick, left_out, report.to_dict())


def chosen(options: argparse.Namespace) -> list[Scenario]:
    """Return the scenarios that the command line names."""
    scenarios = work_list(options.concurrency, quick=options.quick)
    wanted = options.scenarios or [scenario.name for scenario in scenarios]
    return [scenario for scenario in scenarios if scenario.name in wanted]


def rival(name: str, kind: str, place: Place) -> Target | str:
    """Return a rival, or why it is left out."""
    if kind == "openvino":
        if not place.bundle.manifest.conversions:
            return "openvino-genai is not installed"
        conversion = place.bundle.manifest.conversions[0]
        if not conversion.paged:
            return "gives wrong tokens for this model"
        return RivalTarget(name, kind, place.bundle.converted(conversion))
    if kind == "manager" and place.snapshot.name in NOT_FOR_TRANSFORMERS:
        return NOT_FOR_TRANSFORMERS[place.snapshot.name]
    return RivalTarget(name, kind, place.snapshot)


def transformers_server(place: Place) -> Target | str:
    """Return `transformers serve`, or why it is left out."""
    missing = [package for package in ("fastapi", "uvicorn") if find_spec(package) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if place.snapshot.name in NOT_FOR_TRANSFORMERS:
        return NOT_FOR_TRANSFORMERS[place.snapshot.name]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place.snapshot)
    endless = endless_copy(place.snapshot, place.scratch / "endless")
    command = [
        TRANSFORMERS, "serve", "--continuous-batching", "--port", "{port}", "--host", "127.0.0.1",
        "--dtype", "bfloat16", "--cb-num-blocks", "96", "--cb-max-batch-tokens", "512",
    ]  # fmt: skip
    return ServedTarget(
        "transformers serve", command, health="/health", model=str(endless),
        text_of=lambda ids: str(tokenizer.decode(list(ids))),
    )  # fmt: skip


def endless_copy(snapshot: Path, folder: Path) -> Path:
    """Link the model into `folder` without its end token, for servers that cannot ignore it."""
    folder.mkdir()
    for path in snapshot.iterdir():
        if path.name in ("config.json", "generation_config.json"):
            values = json.loads(path.read_text()) | {"eos_token_id": None}
            (folder / path.name).write_text(json.dumps(values))
        else:
            (folder / path.name).symlink_to(path.resolve())
    return folder


def ours(name: str, engine: str, place: Place) -> Target | str:
    """Return an engine of ours in a child process, without a server."""
    if engine == "openvino" and not place.bundle.manifest.conversions:
        return "openvino-genai is not installed"
    settings = EngineSettings(name=engine, max_running=128, hang_seconds=1e6)  # type: ignore[arg-type]

    def make(restarts: Restarts) -> Engine:
        return engine_of(place.bundle, settings, restarts)

    return EngineTarget(name, make)


def our_server(name: str, engine: str, place: Place) -> Target | str:
    """Return `mooring serve` with that engine."""
    if engine == "openvino" and not place.bundle.manifest.conversions:
        return "openvino-genai is not installed"
    command = [
        MOORING, "serve", place.bundle.folder, "--engine", engine, "--port", "{port}",
        "--max-waiting", "1024", "--hang-seconds", "600",
    ]  # fmt: skip
    return ServedTarget(name, command)


WAYS: dict[str, Callable[[Place], Target | str]] = {
    "tutorial": partial(rival, "the tutorial's way", "tutorial"),
    "manager": partial(rival, "transformers manager", "manager"),
    "transformers-serve": transformers_server,
    "openvino": partial(rival, "raw OpenVINO, int8", "openvino"),
    "ours": partial(ours, "Mooring, transformers", "transformers"),
    "ours-served": partial(our_server, "Mooring, transformers, served", "transformers"),
    "ours-openvino": partial(ours, "Mooring, OpenVINO int8", "openvino"),
    "ours-openvino-served": partial(our_server, "Mooring, OpenVINO int8, served", "openvino"),
}


@contextmanager
def drawn() -> Iterator[Callable[[str, int, int], None]]:
    """Draw the progress on stderr."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("load", total=None)
        yield lambda text, done, total: bar.update(
            task, description=text, completed=done, total=total
        )


if __name__ == "__main__":
    main()
