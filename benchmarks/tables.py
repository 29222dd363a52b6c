"""The measured parts as one table with ratios and goals, and as a picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASELINE = "the tutorial's way"
STANDS_FOR_MORE = "8 at once"


@dataclass(frozen=True)
class Part:
    """One run: the model, the processors, whether lengths were short, and the report."""

    model: str
    processors: int
    quick: bool
    left_out: list[str]
    report: dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """A figure to reach: `way`'s speed over `other`'s, at least `ratio`."""

    model: str
    way: str
    scenario: str
    ratio: float
    other: str = BASELINE


_OURS, _SERVED = "Mooring, transformers", "Mooring, transformers, served"
_OPENVINO = "Mooring, OpenVINO int8, served"
_MANAGER = "transformers manager"
GOALS = (
    Goal("S", _OURS, "single", 1.4),
    Goal("S", _OURS, "8 at once", 3.0),
    Goal("S", _OURS, "32 at once", 6.0),
    Goal("S", _OURS, "single", 1.0, _MANAGER),
    Goal("S", _OURS, "8 at once", 1.0, _MANAGER),
    Goal("S", _OURS, "32 at once", 1.0, _MANAGER),
    Goal("S", _OPENVINO, "32 at once", 11.0),
    Goal("S", _OPENVINO, "32 at once", 0.95, "raw OpenVINO, int8"),
    Goal("S", _OPENVINO, "32 at once", 3.0, "transformers serve"),
    Goal("M", _OURS, "32 at once", 4.0),
    Goal("R", _OURS, "32 at once", 4.0),
)


def markdown(parts: Sequence[Part]) -> str:
    """Return a table for each part, then the goals that can be judged from them."""
    return "\n".join([*(_table(part) for part in parts), _goals(parts)])


def _table(part: Part) -> str:
    names = [scenario["name"] for scenario in part.report["scenarios"]]
    targets = part.report["targets"]
    baseline = next((t for t in targets if t["target"] == BASELINE), None)
    lines = [
        f"Model {part.model}{', an eighth of every length' if part.quick else ''}",
        "",
        "| | " + " | ".join(map(_title, names)) + " | memory |",
        "|---" * (len(names) + 2) + "|",
    ]
    for target in targets:
        cells = [_cell(target, baseline, name) for name in names]
        memory = target["peak_memory_bytes"]
        held = "unknown" if memory is None else f"{memory / 2**30:.1f} GiB"
        lines.append(f"| {target['target']} | {' | '.join(cells)} | {held} |")
    lines += ["", *(f"Left out: {reason}." for reason in part.left_out)]
    smooth = [line for target in targets for line in _smoothness(target)]
    return "\n".join([*lines, *smooth]) + "\n"


def _title(scenario: str) -> str:
    return f"{scenario}, s" if scenario == "first token" else f"{scenario}, tokens/s"


def _cell(target: dict[str, Any], baseline: dict[str, Any] | None, name: str) -> str:
    figures = target["figures"][name]
    speed = figures["tokens_per_second"]
    if speed is None:
        return f"{figures['first_token']['p50']:.2f}"
    spread = f"{speed:.1f} ({figures['slowest']:.1f}-{figures['fastest']:.1f})"
    if baseline is None:
        return spread
    return f"{spread} {speed / baseline['figures'][name]['tokens_per_second']:.2f}x"


def _smoothness(target: dict[str, Any]) -> Iterator[str]:
    for name, figures in target["figures"].items():
        gaps, first = figures["inter_token"], figures["first_token"]
        if gaps is not None and name not in ("single", "first token"):
            yield (
                f"- {target['target']}, {name}: first token p50 {first['p50']:.2f} s, p99 "
                f"{first['p99']:.2f} s; between tokens p50 {gaps['p50'] * 1000:.0f} ms, p99 "
                f"{gaps['p99'] * 1000:.0f} ms ({gaps['p99'] / max(gaps['p50'], 1e-9):.1f}x)"
            )


def _goals(parts: Sequence[Part]) -> str:
    lines = ["| model | goal | reached | |", "|---|---|---|---|"]
    for goal in GOALS:
        reached = _reached(parts, goal)
        if reached is not None:
            met = "met" if reached >= goal.ratio else "not met"
            lines.append(
                f"| {goal.model} | {goal.way}, {goal.scenario}: {goal.ratio}x {goal.other} | "
                f"{reached:.2f}x | {met} |"
            )
    return "\n".join(lines) + "\n"


def _reached(parts: Sequence[Part], goal: Goal) -> float | None:
    """Return the ratio within one part if there is one that measured both, else across parts.

    One answer after another takes no shorter for more of them: where the baseline was not measured
    at 32, its speed at 8 stands for it.
    """
    of_model = [_speeds(part) for part in parts if part.model == goal.model]
    together = {name: speed for speeds in of_model for name, speed in speeds.items()}
    for speeds in (*of_model, together):
        ours = speeds.get((goal.way, goal.scenario))
        theirs = speeds.get((goal.other, goal.scenario))
        if theirs is None and goal.other == BASELINE:
            theirs = speeds.get((BASELINE, STANDS_FOR_MORE))
        if ours and theirs:
            return ours / theirs
    return None


def _speeds(part: Part) -> dict[tuple[str, str], float]:
    return {
        (target["target"], name): figures["tokens_per_second"]
        for target in part.report["targets"]
        for name, figures in target["figures"].items()
    }


def plot(parts: Sequence[Part], path: Path) -> None:
    """Draw the speeds of every part as bars."""
    from matplotlib.figure import Figure

    rows = [
        (f"{target['target']}\n{part.model}, {name}", figures["tokens_per_second"])
        for part in parts
        for name in [scenario["name"] for scenario in part.report["scenarios"]]
        for target in part.report["targets"]
        if (figures := target["figures"][name])["tokens_per_second"] is not None
    ]
    figure = Figure(figsize=(8, 0.42 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    colours = ["#1f6f8b" if label.startswith("Mooring") else "#b8b8b8" for label, _ in rows]
    bars = axes.barh([label for label, _ in rows], [speed for _, speed in rows], color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("output tokens per second (more is better)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=90)
