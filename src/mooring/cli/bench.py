"""`mooring bench`: how fast a model or a server answers."""

import json as json_module
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mooring.cli.options import Json, TrackingUri
from mooring.cli.output import bytes_text, err, out, show_json
from mooring.errors import InvalidInput
from mooring.settings import Device, Dtype, EngineSettings

if TYPE_CHECKING:
    from mooring.api.bench import Contender
    from mooring.bench.figures import Figures, Spread
    from mooring.bench.measuring import Progress as Report
    from mooring.bench.report import BenchReport

Engine = Literal["auto", "transformers", "openvino", "echo"]


def bench(
    target: Annotated[
        str, typer.Argument(help="A packaged model, or the address of an OpenAI-compatible server.")
    ],
    against: Annotated[
        str | None, typer.Option(help="A second model or server, measured side by side.")
    ] = None,
    against_engine: Annotated[
        Engine | None, typer.Option(help="Engine of the second; without --against, same model.")
    ] = None,
    engine: Annotated[
        Engine | None, typer.Option(help="What generates the tokens of a packaged model.")
    ] = None,
    device: Annotated[Device | None, typer.Option(help="Where packaged models run.")] = None,
    dtype: Annotated[
        Dtype | None,
        typer.Option(help="Precision; what the artifact says if not given."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Name to ask a server for; its first if not given.")
    ] = None,
    concurrency: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Requests at once; may be repeated. 8 and 32 if not given."),
    ] = None,
    runs: Annotated[
        int, typer.Option(min=1, help="Rounds that count, after one that warms up.")
    ] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="An eighth of every length, 4 requests at once.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Write the JSON into this file too.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the figures into this PNG file.")] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Put the figures onto the MLflow model as metrics.")
    ] = False,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Measure tokens per second, time to the first token, time between tokens, and memory.

    Every target gets the same work list, greedily and with the end token ignored: one stream alone,
    one prompt of 512 tokens, and many requests of mixed lengths at once. Medians count.

    [bold]Examples[/]

    mooring bench models:/demo@champion --quick

    mooring bench models:/demo@champion --against http://127.0.0.1:8000 --plot bench.png
    """
    from mooring.api.bench import BenchOptions, log_report
    from mooring.api.bench import bench as measure
    from mooring.bench.plot import check_plot, write_plot

    first = _contender(target, _Asked("--engine", engine, device, dtype, model))
    second = None
    if against is not None or against_engine is not None:
        asked = _Asked("--against-engine", against_engine, device, dtype, model)
        second = _contender(against or target, asked)
    pair = [first] if second is None else [first, second]
    _refuse_unused(pair, log=log, model=model, placed=device or dtype)
    if plot is not None:
        check_plot(plot)
    if output is not None and not output.parent.is_dir():
        raise InvalidInput(f"--output needs a folder that is there. Given: {output}.")
    at_once = tuple(dict.fromkeys(concurrency or ([4] if quick else [8, 32])))
    with _drawn() as progress:
        report = measure(first, second, BenchOptions(at_once, runs, quick, tracking_uri, progress))
    if output is not None:
        output.write_text(json_module.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    if plot is not None:
        write_plot(report, plot)
    if log:
        log_report(target, report, tracking_uri=tracking_uri)
    if json:
        show_json(report.to_dict())
    else:
        _show(report)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options that say how one of the two is run; `option` is the name of the engine's."""

    option: str
    engine: Engine | None
    device: Device | None
    dtype: Dtype | None
    model: str | None


def _contender(address: str, asked: _Asked) -> "Contender":
    from mooring.api.bench import Contender

    contender = Contender(address, model=asked.model)
    if not contender.is_server:
        settings = EngineSettings(asked.engine or "auto", asked.device or "auto", asked.dtype)
        return replace(contender, engine=settings)
    if asked.engine is not None:
        raise InvalidInput(f"{asked.option} is for a packaged model. Given: {address}.")
    return contender


def _refuse_unused(
    pair: "list[Contender]", *, log: bool, model: str | None, placed: str | None
) -> None:
    """Raise for options that none of the pair could honour."""
    if log and pair[0].is_server:
        raise InvalidInput("--log needs a packaged model. Given: a server's address.")
    if model is not None and not any(contender.is_server for contender in pair):
        raise InvalidInput("--model is the name to ask a server for. Given: no server.")
    if placed is not None and all(contender.is_server for contender in pair):
        raise InvalidInput(
            f"--device and --dtype are for packaged models. Given: {placed} and only servers."
        )


@contextmanager
def _drawn() -> "Iterator[Report]":
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("open", total=None)
        yield lambda text, done, total: bar.update(
            task, description=text, completed=done, total=total
        )


def _show(report: "BenchReport") -> None:
    for measured in report.measured:
        facts = ", ".join(f"{name}: {value}" for name, value in measured.facts.items())
        memory = measured.peak_memory_bytes
        shown = "unknown" if memory is None else bytes_text(memory)
        table = Table(
            title=measured.target, title_justify="left", caption_justify="left", box=SIMPLE_HEAD
        )
        table.caption = f"{facts}. Most memory: {shown}. Times: p50 / p95 / p99."
        for column in ("", "tokens/s", "spread", "first token, s",
                       "between tokens, ms"):  # fmt: skip
            table.add_column(column, justify="right" if column else "left", no_wrap=True)
        for name, figures in measured.figures.items():
            table.add_row(name, *_cells(figures))
        out.print(table)
    if not report.ratios:
        return
    ratios = Table(
        title=f"{report.measured[0].target} beside the other", title_justify="left", box=SIMPLE_HEAD
    )
    for column in ("", "tokens/s", "first token p50"):
        ratios.add_column(column, justify="right" if column else "left", no_wrap=True)
    for ratio in report.ratios:
        speed = "" if ratio.tokens_per_second is None else f"{ratio.tokens_per_second:.2f}x"
        ratios.add_row(ratio.scenario, speed, f"{ratio.first_token:.2f}x")
    out.print(ratios)


def _cells(figures: "Figures") -> tuple[str, str, str, str]:
    speed, spread = "", ""
    if figures.tokens_per_second is not None:
        speed = f"{figures.tokens_per_second:.1f}"
        spread = f"{figures.slowest:.1f}-{figures.fastest:.1f}"
    return speed, spread, _three(figures.first_token, 1, 3), _three(figures.inter_token, 1000, 1)


def _three(spread: "Spread | None", scale: float, digits: int) -> str:
    if spread is None:
        return ""
    values = (spread.p50, spread.p95, spread.p99)
    return "/".join(f"{value * scale:.{digits}f}" for value in values)
