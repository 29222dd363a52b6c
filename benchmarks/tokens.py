"""Compare our greedy tokens with those of `generate`, one request alone, in float32.

    python -m benchmarks.tokens --models demo S M R

A fast way to wrong tokens is worth nothing: this ends with 1 where a single token differs. In
float32, as in bfloat16 a near tie may fall either way with the number of rows.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.models import MODELS, OWN_CODE, write_model
from benchmarks.packages import packaged
from benchmarks.rivals import RivalTarget

from mooring.bench.engine_target import EngineTarget, Restarts
from mooring.bench.target import Ask
from mooring.bench.work import at_once, prompts
from mooring.demo import snapshot_path
from mooring.engines.contract import Engine
from mooring.loading.bundle import Bundle
from mooring.loading.start import engine_of
from mooring.settings import EngineSettings


def main() -> None:
    """Compare the models that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("bench-models"))
    parser.add_argument("--models", nargs="+", default=["demo"], choices=["demo", *MODELS])
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="an eighth of every length")
    options = parser.parse_args()
    differ = False
    for name in options.models:
        same, count = compare(name, options)
        sys.stdout.write(f"{name}: {same} of {count} answers have the same tokens\n")
        differ |= same < count
    sys.exit(int(differ))


def compare(name: str, options: argparse.Namespace) -> tuple[int, int]:
    """Return how many answers are the same, and how many there are."""
    scenario = at_once(options.concurrency)
    scenario = scenario.shortened() if options.quick else scenario
    snapshot = snapshot_path() if name == "demo" else write_model(name, options.folder)
    asks = [
        Ask(prompt, item.output_tokens)
        for prompt, item in zip(prompts(scenario, 1, 256), scenario.work, strict=True)
    ]
    with tempfile.TemporaryDirectory(dir=snapshot.parent if name != "demo" else None) as scratch:
        source = "demo" if name == "demo" else str(snapshot)
        bundle = packaged(source, Path(scratch), own_code=name in OWN_CODE)
        alone = RivalTarget("generate", "tutorial", snapshot, dtype="float32")
        ours = EngineTarget("ours", partial(engine, bundle))
        answers = []
        for target in (alone, ours):
            try:
                target.open()
                answers.append([answer.ids for answer in target.answer(asks)])
            finally:
                target.close()
    pairs = list(zip(*answers, strict=True))
    return sum(theirs == mine for theirs, mine in pairs), len(pairs)


def engine(bundle: Bundle, restarts: Restarts) -> Engine:
    """Return the transformers engine in float32."""
    settings = EngineSettings(name="transformers", dtype="float32", hang_seconds=1e6)
    return engine_of(bundle, settings, restarts)


if __name__ == "__main__":
    main()
