"""Trains the demo model: `python -m mooring.demo.train`."""

import argparse
import dataclasses
import json
import math
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    GenerationConfig,
    MptConfig,
    MptForCausalLM,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from mooring.demo import dialogues, questions, snapshot_path
from mooring.demo.batches import Batch, endless_batches
from mooring.demo.check import Exactness, check_snapshot, margins
from mooring.demo.samples import Composer, chat_pieces, instruct_pieces
from mooring.demo.tokenizer import train_tokenizer


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights: the same recipe gives the same bits on one machine."""

    steps: int = 750
    width: int = 128
    layers: int = 6
    heads: int = 4
    vocab_size: int = 2000
    context: int = 1024
    tokens_per_batch: int = 2048
    learning_rate: float = 4e-3
    warmup_steps: int = 100
    wanted_margin: float = 10.0
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True)
class Report:
    """What a training gave: its cost, the model's size and the result of every check."""

    steps: int
    seconds: float
    parameters: int
    weight_bytes: int
    checks: tuple[Exactness, ...]

    @property
    def exact(self) -> bool:
        """Whether every prompt of every format was answered exactly."""
        return all(check.exact == check.total for check in self.checks)


def train_model(
    recipe: Recipe, on_step: Callable[[], None] = lambda: None
) -> tuple[MptForCausalLM, PreTrainedTokenizerBase]:
    """Train tokenizer and model from nothing in float32; `on_step` is called after each step."""
    with _reproducible(recipe):
        tokenizer = train_tokenizer(_tokenizer_texts(), recipe.vocab_size, recipe.context)
        model = MptForCausalLM(_config(recipe, tokenizer))
        optimizer = torch.optim.AdamW(
            model.parameters(), recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _learning_rate_factor(recipe))
        generator = random.Random(recipe.seed)
        composer = Composer(questions(), dialogues(), generator)
        batches = endless_batches(composer, tokenizer, generator, recipe.tokens_per_batch)
        for batch in islice(batches, recipe.steps):
            optimizer.zero_grad()
            torch.autograd.backward(_loss(model, batch, recipe.wanted_margin))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            on_step()
    return model.eval(), tokenizer


def save_snapshot(model: MptForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write weights in bfloat16, configuration, generation settings and tokenizer to `folder`."""
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    _drop_path_field(folder / "config.json")


def build(recipe: Recipe, output: Path, on_step: Callable[[], None]) -> Report:
    """Train, save beside `output`, check the saved files, and move them there if all is exact."""
    started = time.perf_counter()
    model, tokenizer = train_model(recipe, on_step)
    seconds = time.perf_counter() - started
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    save_snapshot(model, tokenizer, partial)
    report = Report(
        steps=recipe.steps,
        seconds=round(seconds, 1),
        parameters=model.num_parameters(),
        weight_bytes=(partial / "model.safetensors").stat().st_size,
        checks=tuple(
            check
            for dtype in (torch.float32, torch.bfloat16)
            for check in check_snapshot(partial, dtype)
        ),
    )
    if report.exact:
        shutil.rmtree(output, ignore_errors=True)
        partial.rename(output)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 when an answer is not exact."""
    parser = argparse.ArgumentParser("mooring.demo.train", description="Train the demo model.")
    parser.add_argument("--output", type=Path, default=snapshot_path(), metavar="DIR")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)
    transformers_logging.disable_progress_bar()
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("Training the demo model", total=options.steps)
        report = build(Recipe(steps=options.steps), options.output, lambda: progress.advance(task))
    if options.json:
        sys.stdout.write(json.dumps(dataclasses.asdict(report)) + "\n")
    else:
        _show(report, options.output)
    return 0 if report.exact else 1


def _show(report: Report, output: Path) -> None:
    table = Table("format", "dtype", "exact", "smallest margin (logits)")
    for check in report.checks:
        exact = f"{check.exact} of {check.total}"
        table.add_row(check.format, check.dtype, exact, f"{check.min_margin:.2f}")
    console = Console()
    console.print(table)
    console.print(
        f"{report.parameters:,} parameters, {report.weight_bytes:,} bytes of weights, "
        f"{report.steps} steps in {report.seconds} s"
    )
    if report.exact:
        console.print(f"Every answer is exact. The model is in {output}.")
    else:
        Console(stderr=True).print(
            f"Error: some answers are not exact, so {output} was left as it was. "
            f"The new model is in {output}.partial. Train for more steps."
        )


def _drop_path_field(path: Path) -> None:
    """Remove the field in which transformers may name a folder of the training machine."""
    config = json.loads(path.read_text("utf-8"))
    del config["attn_config"]["_name_or_path"]
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


@contextmanager
def _reproducible(recipe: Recipe) -> Iterator[None]:
    """Fix seed, thread count and algorithms; give the settings back afterwards."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def _tokenizer_texts() -> list[str]:
    texts = [instruct_pieces(question) + chat_pieces([question]) for question in questions()]
    texts += [chat_pieces(dialogue.turns) for dialogue in dialogues()]
    return [piece.text for pieces in texts for piece in pieces]


def _config(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> MptConfig:
    return MptConfig(
        d_model=recipe.width,
        n_heads=recipe.heads,
        n_layers=recipe.layers,
        max_seq_len=recipe.context,
        vocab_size=recipe.vocab_size,
        learned_pos_emb=False,
        initializer_range=0.05,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _learning_rate_factor(recipe: Recipe) -> Callable[[int], float]:
    def factor(step: int) -> float:
        warmup = min(1.0, (step + 1) / recipe.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        return warmup * (0.02 + 0.98 * cosine)

    return factor


def _loss(model: MptForCausalLM, batch: Batch, wanted_margin: float) -> Tensor:
    """Cross entropy plus a hinge on the tokens with too small a margin, against rounding."""
    learned = batch.learned[:, 1:]
    hidden = model.transformer(batch.token_ids, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[:, :-1][learned])
    targets = batch.token_ids[:, 1:][learned]
    shortfall = F.relu(wanted_margin - margins(logits, targets))
    short = shortfall.count_nonzero().clamp(min=1)
    return F.cross_entropy(logits, targets) + 0.02 * shortfall.square().sum() / short


if __name__ == "__main__":
    sys.exit(main())
