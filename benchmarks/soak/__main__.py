"""Torment a server, run by run, and say whether it bore it.

python -m benchmarks.soak            all runs at their whole length, and an hour of steady load
python -m benchmarks.soak --short    the same in three minutes

A run of the short form that fails only in time is done again, once.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.soak import crowds, deaths
from benchmarks.soak.plan import Plan
from benchmarks.soak.report import Report, slowness
from benchmarks.soak.target import CLIENT_PROCESSOR, pin
from rich.console import Console
from rich.table import Table

Run = Callable[[Plan], Coroutine[Any, Any, Report]]

RUNS: dict[str, Run] = {
    "smoke": crowds.smoke,
    "overload": crowds.overload,
    "mixed": crowds.mixed,
    "storm": crowds.storm,
    "slow-readers": crowds.slow_readers,
    "slowloris": crowds.slowloris,
    "drain": deaths.drain,
    "kill": deaths.kill,
    "stop": deaths.stop,
    "poison": deaths.poison,
    "soak": deaths.soak,
}


def main() -> int:
    """Do the runs, show what was found and return 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--short", action="store_true", help="three minutes in all")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the run `soak`")
    parser.add_argument("--json", type=Path, help="write all figures into this file")
    options = parser.parse_args()
    pin(os.getpid(), CLIENT_PROCESSOR)
    console = Console(stderr=True)
    console.print(f"seed {options.seed}")
    reports = []
    for name in options.runs:
        report = done(name, options, console)
        if options.short and not report.passed and report.only_slow:
            report = done(name, options, console)
        reports.append(report)
        if options.json:
            found = {"seed": options.seed, "runs": [asdict(report) for report in reports]}
            options.json.write_text(json.dumps(found, indent=2) + "\n")
    show(reports)
    return 0 if all(report.passed for report in reports) else 1


def done(name: str, options: argparse.Namespace, console: Console) -> Report:
    """Do one run, and say how it ended."""
    plan = Plan(options.short, options.seed, slowness(), options.minutes)
    began = time.monotonic()
    report = asyncio.run(RUNS[name](plan))
    report.seconds = round(time.monotonic() - began, 1)
    report.figures["slowness"] = round(plan.slowness, 2)
    ended = "passed" if report.passed else "FAILED"
    console.print(f"{name}: {ended} in {report.seconds:g} s, at {plan.slowness:.1f} times")
    return report


def show(reports: list[Report]) -> None:
    """Print every rule of every run, and what was measured."""
    table = Table("run", "rule", "found", "")
    for report in reports:
        for check in report.checks:
            table.add_row(report.run, check.rule, check.found, "" if check.passed else "FAILED")
        table.add_section()
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
