"""What our own server costs, measured with the echo engine, which costs next to nothing.

    python -m benchmarks.server

32 connections stream at once. Unpaced, the server on one processor and the client on another, it
shows how many tokens a second the server can move. Paced, each step of the engine taking some
milliseconds, and the requests coming one after another, the times through the server stand beside
those of the engine alone: the difference is what the server adds.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.packages import packaged
from benchmarks.served import ServedTarget
from rich.console import Console
from rich.table import Table

from mooring.bench.engine_target import EngineTarget, Restarts
from mooring.bench.figures import Figures
from mooring.bench.measuring import measure
from mooring.bench.target import Answer, Ask, Target
from mooring.bench.work import Scenario, Work
from mooring.engines.contract import Engine, EngineObserver
from mooring.engines.description import EngineDescription
from mooring.engines.process import ProcessEngine
from mooring.http.server import run_server
from mooring.loading.bundle import open_folder
from mooring.loading.start import identity_of
from mooring.loading.tokenizer import TransformersTokenizer
from mooring.service.host import ModelHost
from mooring.service.text_service import TextService
from mooring.settings import EngineSettings, ServerSettings, ServiceLimits

CONNECTIONS, PROMPT_TOKENS, OUTPUT_TOKENS = 32, 64, 256
VOCABULARY_SIZE = 1000
# In steps, no whole number: requests come at every moment of a step.
SPACING = 1.23
SERVER_PROCESSOR, CLIENT_PROCESSOR = 0, 1


def main() -> None:
    """Measure and print, or be the server that is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--step", type=float, default=0.03, help="seconds of a paced step")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--serve", nargs=3, metavar=("FOLDER", "PORT", "STEP"), help="be the server"
    )
    options = parser.parse_args()
    if options.serve:
        folder, port, step = options.serve
        serve(Path(folder), int(port), float(step))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = packaged("demo", Path(scratch)).folder
        figures = measured(folder, options.step, options.runs)
    show(figures, as_json=options.json)


def serve(folder: Path, port: int, step: float) -> None:
    """Serve the echo engine on one processor."""
    os.sched_setaffinity(0, {SERVER_PROCESSOR})
    bundle = open_folder(folder)
    host = ModelHost(identity_of(bundle))
    engine = echo(step, host)

    def load() -> TextService:
        return TextService(
            engine=engine,
            capabilities=engine.start(),
            tokenizer=TransformersTokenizer(bundle.snapshot),
            prompt_format=bundle.manifest.prompt,
            defaults=bundle.manifest.sampling,
            limits=ServiceLimits(max_waiting=CONNECTIONS),
        )

    try:
        run_server(host, ServerSettings(port=port), load=load, announce=lambda url: None)
    finally:
        engine.close()


def echo(step: float, observer: EngineObserver) -> Engine:
    """Return an echo engine in a child process, each step taking `step` seconds."""
    settings = EngineSettings(name="echo", max_running=CONNECTIONS)
    return ProcessEngine(
        EngineDescription("", 4096, VOCABULARY_SIZE, settings, seconds_per_token=step), observer
    )


def measured(folder: Path, step: float, runs: int) -> dict[str, Figures]:
    """Return the figures of the server unpaced, the server paced, and the engine alone paced."""
    os.sched_setaffinity(0, {CLIENT_PROCESSOR})
    scenario = Scenario("streams", (Work(PROMPT_TOKENS, OUTPUT_TOKENS),) * CONNECTIONS)
    command = [sys.executable, "-m", "benchmarks.server", "--serve", folder, "{port}"]
    found, words = {}, words_of(folder)
    for pace in (0.0, step):
        served = ServedTarget("server", [*command, pace])
        targets: list[Target] = [EngineTarget("engine", partial(_engine, pace)), served]
        spacing = SPACING * pace
        arranged = [Arranged(target, words, spacing) for target in targets]
        for result in measure(arranged, [scenario], runs=runs).measured:
            found[f"{result.target}, {'paced' if pace else 'unpaced'}"] = result.figures["streams"]
    return found


class Arranged:
    """A target that is asked so that the times of two targets can be compared.

    Prompts, and so their echoes, are made of `words`: tokens that are text by themselves. Parts of
    characters would wait for the rest of them, which is no time of the server's. Requests come
    `spacing` seconds apart: of those sent at once, most would wait for the engine's second step.
    """

    def __init__(self, target: Target, words: Sequence[int], spacing: float) -> None:
        self.name = target.name
        self._target = target
        self._words = words
        self._spacing = spacing

    def open(self) -> dict[str, str]:
        """Open the target."""
        return self._target.open()

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        """Ask for the same lengths in words, one after another."""
        words, count = self._words, len(self._words)
        arranged = [
            Ask(
                tuple(words[id % count] for id in ask.prompt),
                ask.output_tokens,
                after=number * self._spacing,
            )
            for number, ask in enumerate(asks)
        ]
        return self._target.answer(arranged)

    def processes(self) -> list[int]:
        """Return the target's processes."""
        return self._target.processes()

    def close(self) -> None:
        """Close the target."""
        self._target.close()


def words_of(folder: Path) -> list[int]:
    """Return the token ids of a packaged model that decode to plain text by themselves."""
    tokenizer = TransformersTokenizer(open_folder(folder).snapshot)
    texts = {id: tokenizer.decode([id]) for id in range(VOCABULARY_SIZE)}
    return [id for id, text in texts.items() if text.isascii() and text.strip()]


def _engine(pace: float, restarts: Restarts) -> Engine:
    return echo(pace, restarts)


def show(found: dict[str, Figures], *, as_json: bool) -> None:
    """Print the figures and what the server adds, in milliseconds."""
    engine, server = found["engine, paced"], found["server, paced"]
    assert engine.inter_token is not None
    assert server.inter_token is not None
    added = {
        "tokens_per_second": found["server, unpaced"].tokens_per_second,
        "added_first_token_p50_ms": 1000 * (server.first_token.p50 - engine.first_token.p50),
        "added_first_token_p99_ms": 1000 * (server.first_token.p99 - engine.first_token.p99),
        "added_inter_token_p50_ms": 1000 * (server.inter_token.p50 - engine.inter_token.p50),
        "added_inter_token_p99_ms": 1000 * (server.inter_token.p99 - engine.inter_token.p99),
    }
    if as_json:
        figures = {name: asdict(values) for name, values in found.items()}
        sys.stdout.write(json.dumps({"summary": added, "figures": figures}, indent=2) + "\n")
        return
    table = Table(title=f"{CONNECTIONS} streams from the echo engine", title_justify="left")
    for column in ("", "goal", "measured"):
        table.add_column(column, justify="right" if column else "left")
    goals = (">= 5000", "<= 5", "", "", "<= 5")
    for (name, value), goal in zip(added.items(), goals, strict=True):
        table.add_row(name.replace("_", " "), goal, f"{value:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
