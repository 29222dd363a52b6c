"""Measure targets side by side: each in every round, so that a slow minute hits all of them."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from mooring.bench.figures import figures_of
from mooring.bench.memory import PeakMemory
from mooring.bench.report import BenchReport, Measured
from mooring.bench.target import Answer, Ask, Target
from mooring.bench.work import Scenario, prompts

Progress = Callable[[str, int, int], None]
"""Is told what comes next, the steps done and the steps there are."""


def measure(
    targets: Sequence[Target],
    scenarios: Sequence[Scenario],
    *,
    runs: int = 3,
    vocabulary_size: int = 256,
    progress: Progress = lambda text, done, total: None,
) -> BenchReport:
    """Open every target, give each the same work in `runs` + 1 rounds, and return the figures.

    The first round warms up with an eighth of every length and is not counted. All targets are
    closed at the end, also after a failure or Ctrl-C.
    """
    total = len(targets) * (1 + len(scenarios) * (runs + 1))
    done = 0
    seen: dict[str, dict[str, list[list[Answer]]]] = {target.name: {} for target in targets}
    with ExitStack() as stack:
        facts, memory = {}, {}
        for target in targets:
            progress(f"load {target.name}", done, total)
            stack.callback(target.close)
            facts[target.name] = target.open()
            memory[target.name] = stack.enter_context(PeakMemory(target.processes()))
            done += 1
        for scenario in scenarios:
            for run in range(runs + 1):
                asks = _asks(scenario if run else scenario.shortened(), run, vocabulary_size)
                for target in targets:
                    progress(f"{scenario.name}: {target.name}", done, total)
                    answers = target.answer(asks)
                    if run > 0:
                        seen[target.name].setdefault(scenario.name, []).append(answers)
                    done += 1
        progress("done", done, total)
    measured = tuple(
        Measured(
            target=target.name,
            facts=facts[target.name],
            peak_memory_bytes=memory[target.name].bytes,
            figures={name: figures_of(of) for name, of in seen[target.name].items()},
        )
        for target in targets
    )
    return BenchReport(tuple(scenarios), measured)


def _asks(scenario: Scenario, run: int, vocabulary_size: int) -> list[Ask]:
    ids = prompts(scenario, run, vocabulary_size)
    return [
        Ask(prompt, item.output_tokens) for prompt, item in zip(ids, scenario.work, strict=True)
    ]
