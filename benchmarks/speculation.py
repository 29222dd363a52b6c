"""What prompt lookup and the prefix cache bring: one answer at a time, with and without, in turns.

Every pair of answers must have the same tokens when the model computes in float32.
"""

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from rich.console import Console

from mooring.engines.transformers import TransformersEngine
from mooring.generation import Event, Failed, GenerationRequest, SamplingParams, Started, Token
from mooring.settings import Dtype, EngineSettings

PROMPT_TOKENS, LONG_PROMPT_TOKENS, NEW_TOKENS = 64, 512, 128
REPEATED = {"temperature": 0.0, "logit_bias": {9: 100.0}}
WORK: dict[str, dict[str, Any]] = {
    "one token repeated": REPEATED,
    "greedy": {"temperature": 0.0},
    "sampled": {"seed": 7},
}


@contextmanager
def engine_of(snapshot: Path, settings: EngineSettings) -> Iterator[TransformersEngine]:
    """Run an engine with room for a few long answers."""
    engine = TransformersEngine(snapshot, settings, context_length=1024, end_token_ids=())
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


def answer(
    engine: TransformersEngine, prompt: Sequence[int], params: SamplingParams
) -> tuple[list[int], float, float]:
    """Return the tokens, and the seconds to the first and from there to the last."""
    events: SimpleQueue[Event] = SimpleQueue()
    began = time.perf_counter()
    engine.submit(GenerationRequest("one", tuple(prompt), params), events.put)
    tokens: list[int] = []
    first = 0.0
    while isinstance(event := events.get(), Started | Token):
        if isinstance(event, Started):
            continue
        first = first or time.perf_counter() - began
        tokens.append(event.id)
    if isinstance(event, Failed):
        raise event.error
    return tokens, first, time.perf_counter() - began - first


def main() -> None:
    """Print a line per kind of text, and one for the time to the first token."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    dtype: Dtype = options.dtype
    plain = EngineSettings(
        device="cpu", dtype=dtype, max_running=4, prefix_cache=False, prompt_lookup=False
    )
    lookup = EngineSettings(device="cpu", dtype=dtype, max_running=4, prefix_cache=False)
    prefix = EngineSettings(device="cpu", dtype=dtype, max_running=4, prompt_lookup=False)
    with engine_of(options.snapshot, plain) as without:
        with engine_of(options.snapshot, lookup) as engine:
            for name, sampling in WORK.items():
                params = SamplingParams().update(
                    {**sampling, "max_tokens": NEW_TOKENS, "ignore_eos": True}
                )
                compare_speed(name, (without, engine), params, options)
        with engine_of(options.snapshot, prefix) as engine:
            compare_first_token((without, engine), options)


def compare_speed(
    name: str,
    engines: tuple[TransformersEngine, TransformersEngine],
    params: SamplingParams,
    options: argparse.Namespace,
) -> None:
    """Print tokens per second after the first, without and with prompt lookup."""
    speeds: tuple[list[float], list[float]] = ([], [])
    for run in range(options.runs):
        said = []
        for engine, found in zip(engines, speeds, strict=True):
            tokens, _, seconds = answer(engine, prompt_of(PROMPT_TOKENS, run), params)
            found.append((len(tokens) - 1) / seconds)
            said.append(tokens)
        if options.dtype == "float32" and said[0] != said[1]:
            raise SystemExit(f"{name}: the tokens differ.")
    plain, drafted = map(statistics.median, speeds)
    ratios = [drafted / plain for plain, drafted in zip(*speeds, strict=True)]
    Console().print(
        f"{name}: {plain:.1f} tokens/s, with lookup {drafted:.1f}; ratio "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
    )


def compare_first_token(
    engines: tuple[TransformersEngine, TransformersEngine], options: argparse.Namespace
) -> None:
    """Print the seconds to the first token after a prompt of which all but the end was read."""
    waits: tuple[list[float], list[float]] = ([], [])
    params = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
    for run in range(options.runs + 1):
        prompt = [*prompt_of(LONG_PROMPT_TOKENS - 16, 99), *prompt_of(16, run)]
        said = []
        for engine, found in zip(engines, waits, strict=True):
            tokens, first, _ = answer(engine, prompt, params)
            found.append(first)
            said.append(tokens)
        if options.dtype == "float32" and said[0] != said[1]:
            raise SystemExit("first token: the tokens differ.")
    plain, reused = (statistics.median(found[1:]) for found in waits)
    Console().print(f"first token: {plain:.2f} s, beginning read before {reused:.3f} s")


def prompt_of(tokens: int, number: int) -> list[int]:
    """Return token ids that do not repeat each other."""
    return [(37 * place + 1009 * number) % 251 + 3 for place in range(tokens)]


if __name__ == "__main__":
    main()
