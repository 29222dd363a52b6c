"""A picture of a benchmark: tokens per second and waiting times, one colour for each target."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.bench.report import BenchReport
from mooring.errors import InvalidInput, MissingDependency

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 0.8  # of the room a scenario has
_SMALL_AXIS_TEXT = 9


def check_plot(path: Path) -> None:
    """Raise before anything is measured if the picture could not be drawn afterwards."""
    _require_matplotlib()
    if path.suffix != ".png":
        raise InvalidInput(f"--plot writes a PNG file, named *.png. Given: {path}.")
    if not path.parent.is_dir():
        raise InvalidInput(f"--plot needs a folder that is there. Given: {path}.")


def write_plot(report: BenchReport, path: Path) -> None:
    """Draw `report` into the PNG file at `path`; raise `MissingDependency`."""
    _require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    speed, wait = figure.subplots(1, 2)
    names = [scenario.name for scenario in report.scenarios]
    speeds = [
        [measured.figures[name].tokens_per_second or 0.0 for name in names]
        for measured in report.measured
    ]
    waits = [
        [measured.figures[name].first_token.p50 for name in names] for measured in report.measured
    ]
    labels = [measured.target for measured in report.measured]
    _bars(speed, names, speeds, labels)
    _bars(wait, names, waits, labels)
    speed.set(title="Output tokens per second (more is better)", ylabel="tokens per second")
    wait.set(title="Time to the first token, median (less is better)", ylabel="seconds")
    speed.legend(frameon=False, fontsize=_SMALL_AXIS_TEXT)
    figure.savefig(path, dpi=110)


def _bars(
    axes: "Axes", names: Sequence[str], values: Sequence[Sequence[float]], labels: Sequence[str]
) -> None:
    width = _WIDTH / len(labels)
    for index, (label, heights) in enumerate(zip(labels, values, strict=True)):
        places = [place + (index - (len(labels) - 1) / 2) * width for place in range(len(names))]
        bars = axes.bar(places, heights, width, label=label)
        shown = [f"{height:.3g}" if height else "" for height in heights]
        axes.bar_label(bars, shown, fontsize=_SMALL_AXIS_TEXT - 1, padding=2)
    axes.set_xticks(range(len(names)), names)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.12)


def _require_matplotlib() -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise MissingDependency(
            "Drawing needs matplotlib. Install it with: pip install 'mooring[bench]'"
        )
