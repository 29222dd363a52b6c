"""Generation speed, side by side in one run: the plain way, one `generate` after another, and ours.

The plain way is what a hand-written MLflow model does: each prompt alone through
`model.generate`. Both run the same model, prompts and lengths, greedily, with the end token
ignored, so both must give the same tokens; a difference ends the run.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Queue

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from mooring.demo import snapshot_path
from mooring.engines.transformers.engine import TransformersEngine
from mooring.generation import Event, Failed, Finished, GenerationRequest, SamplingParams, Token
from mooring.settings import EngineSettings

Answers = list[list[int]]


@dataclass(frozen=True)
class Work:
    """One prompt of token ids and the number of tokens to generate."""

    prompt: tuple[int, ...]
    tokens: int


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    options = parse_arguments()
    torch.set_grad_enabled(False)
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(console=Console(stderr=True)) as progress,
    ):
        for name, make in MODELS.items():
            if name in options.models:
                snapshot = make(Path(folder) / name)
                rows += measure_model(name, snapshot, options, progress)
    show(rows, options)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--runs", type=int, default=3, help="runs of each; the median counts")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


def small_llama(folder: Path) -> Path:
    """Write a Llama of 27 M random parameters."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8000, hidden_size=384, intermediate_size=1536, num_hidden_layers=8,
        num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=1024,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


MODELS: dict[str, Callable[[Path], Path]] = {
    "demo": lambda _: snapshot_path(),
    "llama-27M": small_llama,
}


def work_list(count: int, vocabulary_size: int) -> list[Work]:
    """Return prompts of 16 to 256 tokens that want 16 to 128 more, the same at every run."""
    draw = random.Random(1234)
    work = []
    for _ in range(count):
        prompt_length, tokens = draw.randint(16, 256), draw.randint(16, 128)
        prompt = tuple(draw.randrange(5, vocabulary_size) for _ in range(prompt_length))
        work.append(Work(prompt, tokens))
    return work


def measure_model(
    name: str, snapshot: Path, options: argparse.Namespace, progress: Progress
) -> list[dict[str, object]]:
    """Return one row per concurrency."""
    model = AutoModelForCausalLM.from_pretrained(snapshot, dtype=torch.float32).eval()
    engine = TransformersEngine(
        snapshot, EngineSettings(device="cpu", dtype="float32"), context_length=1024,
        end_token_ids=(),
    )  # fmt: skip
    engine.start()
    task = progress.add_task(name, total=len(options.concurrency) * (options.runs + 1) * 2)
    rows = []
    for count in options.concurrency:
        work = work_list(count, model.config.vocab_size)
        plain, ours = [], []
        for run in range(options.runs + 1):
            plain_answers, plain_seconds = timed(partial(one_after_another, model, work))
            progress.advance(task)
            our_answers, our_seconds = timed(partial(side_by_side, engine, work))
            progress.advance(task)
            if plain_answers != our_answers:
                sys.exit(f"{name}: the tokens differ at concurrency {count}.")
            if run > 0:  # the first run warms up
                plain.append(plain_seconds)
                ours.append(our_seconds)
        rows.append(summary(name, count, sum(w.tokens for w in work), plain, ours))
    engine.close()
    return rows


def timed(run: Callable[[], Answers]) -> tuple[Answers, float]:
    """Return what `run` gives and the seconds it takes."""
    began = time.perf_counter()
    answers = run()
    return answers, time.perf_counter() - began


def one_after_another(model: torch.nn.Module, work: list[Work]) -> Answers:
    """Generate each answer alone, with its cache on."""
    answers = []
    for item in work:
        ids = torch.tensor([item.prompt])
        out = model.generate(  # type: ignore[operator]
            ids, attention_mask=torch.ones_like(ids), do_sample=False, use_cache=True,
            min_new_tokens=item.tokens, max_new_tokens=item.tokens,
            pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
        answers.append(out[0, len(item.prompt) :].tolist())
    return answers


def side_by_side(engine: TransformersEngine, work: list[Work]) -> Answers:
    """Submit everything at once and wait for the last end."""
    answers: Answers = [[] for _ in work]
    ended: Queue[Event] = Queue()

    def receiver(index: int) -> Callable[[Event], None]:
        def receive(event: Event) -> None:
            if isinstance(event, Token):
                answers[index].append(event.id)
            else:
                ended.put(event)

        return receive

    for index, item in enumerate(work):
        sampling = SamplingParams(max_tokens=item.tokens, temperature=0, ignore_eos=True)
        engine.submit(GenerationRequest(str(index), item.prompt, sampling), receiver(index))
    for _ in work:
        event = ended.get()
        if isinstance(event, Failed):
            raise event.error
        assert isinstance(event, Finished)
    return answers


def summary(
    name: str, count: int, tokens: int, plain: list[float], ours: list[float]
) -> dict[str, object]:
    """Return medians as tokens per second, their ratio, and the spread of ours."""
    plain_speed, our_speed = tokens / statistics.median(plain), tokens / statistics.median(ours)
    return {
        "model": name,
        "concurrency": count,
        "tokens": tokens,
        "plain_tokens_per_second": round(plain_speed, 1),
        "our_tokens_per_second": round(our_speed, 1),
        "slowest": round(tokens / max(ours), 1),
        "fastest": round(tokens / min(ours), 1),
        "ratio": round(our_speed / plain_speed, 2),
    }


def show(rows: list[dict[str, object]], options: argparse.Namespace) -> None:
    """Print the rows."""
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table(title="Output tokens per second, greedy, float32, medians", title_justify="left")
    for column in ("model", "at once", "one after another", "Mooring", "spread", "ratio"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for row in rows:
        table.add_row(
            str(row["model"]), str(row["concurrency"]), f"{row['plain_tokens_per_second']}",
            f"{row['our_tokens_per_second']}", f"{row['slowest']} - {row['fastest']}",
            f"{row['ratio']}x",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
