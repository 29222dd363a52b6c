"""What people and scripts see: results on stdout, progress and errors on stderr, JSON if asked."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from mooring.api.watching import Watcher
from mooring.errors import MooringError

if TYPE_CHECKING:
    from mooring.packaging.plan import Plan

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def show_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def show_table(title: str, rows: Mapping[str, Any]) -> None:
    """Print names and values as a table on stdout."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    out.print(table)


def show_plan(plan: "Plan") -> None:
    """Print a plan: its one line, then the numbers behind it."""
    weights = ", ".join(f"{name} {bytes_text(size)}" for name, size in plan.weight_bytes.items())
    rows = {
        "architecture": f"{plan.architecture} ({plan.model_type})",
        "own code": "yes: needs --trust-remote-code" if plan.own_code else "no",
        "parameters": f"{plan.parameters:,}",
        "weights": weights,
        "cache": f"{bytes_text(plan.cache_bytes_per_token)} per token, "
        f"{bytes_text(plan.cache_bytes)} for {plan.concurrency} x {plan.context_length} tokens",
        "libraries and work": bytes_text(plan.overhead_bytes),
        "needed": f"{bytes_text(plan.needed_bytes)} in {plan.precision} on {plan.device}",
        "this machine": f"{bytes_text(plan.available_bytes)} free on {plan.device}, "
        f"{bytes_text(plan.disk_free_bytes)} free on disk",
        **_converting(plan),
        "fits": "yes" if plan.fits else f"no: {plan.advice()}",
    }
    show_table(plan.line(), rows)


def _converting(plan: "Plan") -> dict[str, str]:
    if not plan.converting_memory_bytes:
        return {}
    memory, disk = bytes_text(plan.converting_memory_bytes), bytes_text(plan.converting_disk_bytes)
    return {"converting": f"{memory} of memory and {disk} of disk, while packaging"}


def fail(error: MooringError, *, as_json: bool) -> None:
    """Print an error on stderr: one clear line, or a JSON object."""
    if as_json:
        body = {"code": error.code, "message": error.message, "param": error.param}
        sys.stderr.write(json.dumps({"error": body}, ensure_ascii=False) + "\n")
    else:
        err.print("[bold red]Error:[/]", end=" ")
        err.print(error.message, markup=False, highlight=False)


def bytes_text(count: float) -> str:
    """Return a size in bytes as people read it, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class _Drawn:
    """Draws stages as progress bars and notes as lines, on stderr."""

    show_downloads = True

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def stage(self, text: str, total_bytes: int | None = None) -> None:
        self._finish()
        self._task = self._progress.add_task(text, total=total_bytes)

    def advance(self, count: int) -> None:
        if self._task is not None:
            self._progress.advance(self._task, count)

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def _finish(self) -> None:
        """Fill the bar of the stage before, or take it away if its size was never known."""
        if self._task is not None:
            total = self._progress.tasks[-1].total
            self._progress.update(self._task, completed=total or 0, visible=total is not None)


class _Plain:
    """Writes notes as lines on stderr, as text or JSON, and nothing else: for logs and pipes."""

    show_downloads = False

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json

    def stage(self, text: str, total_bytes: int | None = None) -> None:
        return

    def advance(self, count: int) -> None:
        return

    def note(self, text: str) -> None:
        line = json.dumps({"note": text}, ensure_ascii=False) if self._as_json else text
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


@contextmanager
def watching() -> Iterator[Watcher]:
    """Give long work something to report to: bars at a terminal, lines elsewhere."""
    if not err.is_terminal:
        yield _Plain()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        yield _Drawn(progress)


def plain_notes(*, as_json: bool) -> Watcher:
    """Report notes as lines, for commands that go on for long after their last stage."""
    return _Plain(as_json=as_json)
