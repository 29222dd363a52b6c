"""What keeping answers to a grammar costs: the time of a step of eight rows, with and without.

    python benchmarks/constrained.py SNAPSHOT [--steps 24] [--runs 3]

The runs come in turns; the first of each kind, which also compiles the grammar, is not counted.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from rich.console import Console

from mooring.engines.transformers import TransformersEngine
from mooring.generation import (
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Grammar,
    SamplingParams,
    Token,
)
from mooring.settings import EngineSettings

ROWS, PROMPT_TOKENS = 8, 16
SCHEMA = {
    "type": "array",
    "minItems": 400,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 20},
            "kind": {"enum": ["boat", "pier", "light"]},
            "length": {"type": "number"},
        },
        "required": ["name", "kind", "length"],
        "additionalProperties": False,
    },
}
GRAMMAR = Grammar("json_schema", json.dumps(SCHEMA))


def receiver(row: int, events: "SimpleQueue[tuple[int, float, Event]]") -> Callable[[Event], None]:
    """Return what notes when each event of a row comes."""
    return lambda event: events.put((row, time.perf_counter(), event))


def step_seconds(engine: TransformersEngine, steps: int, grammar: Grammar | None) -> float:
    """Return the median time between two tokens of the same row, of `ROWS` that run together."""
    events: SimpleQueue[tuple[int, float, Event]] = SimpleQueue()
    for row in range(ROWS):
        sampling = SamplingParams(max_tokens=steps, seed=row)
        prompt = tuple(range(10 + row, 10 + row + PROMPT_TOKENS))
        request = GenerationRequest(f"{time.time()}-{row}", prompt, sampling, grammar=grammar)
        engine.submit(request, receiver(row, events))
    times: dict[int, list[float]] = {row: [] for row in range(ROWS)}
    ended = 0
    while ended < ROWS:
        row, moment, event = events.get()
        if isinstance(event, Failed):
            raise event.error
        ended += isinstance(event, Finished)
        if isinstance(event, Token):
            times[row].append(moment)
    together_from = max(moments[0] for moments in times.values())
    gaps = [
        after - before
        for moments in times.values()
        for before, after in itertools.pairwise(moments)
        if before >= together_from
    ]
    return statistics.median(gaps)


def main() -> None:
    """Measure and show both kinds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    engine = TransformersEngine(
        options.snapshot,
        EngineSettings(prefix_cache=False, context_length=1024),
        context_length=1024,
        end_token_ids=(),
    )
    engine.start()
    kinds: dict[str, Grammar | None] = {"free": None, "kept to a schema": GRAMMAR}
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for run in range(options.runs + 1):
        for name, grammar in kinds.items():
            seconds = step_seconds(engine, options.steps, grammar)
            if run:
                found[name].append(seconds)
    engine.close()
    free, kept = (statistics.median(runs) for runs in found.values())
    console = Console()
    for name, runs in found.items():
        each = ", ".join(f"{1000 * value:.2f}" for value in runs)
        console.print(f"{name}: {each} ms a step of {ROWS} rows")
    console.print(f"ratio of medians {kept / free:.2f}, {1000 * (kept - free):+.2f} ms")


if __name__ == "__main__":
    main()
