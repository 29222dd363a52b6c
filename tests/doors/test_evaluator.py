"""Somebody else's evaluator finds the same scores through the server as in the model itself."""

import json
import os
import random
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mooring.demo
from mooring.api.package import PackagedModel
from tests.conftest import Store
from tests.processes import BIN, free_port, server

ROOT = Path(__file__).parents[2]
DEMO = Path(mooring.demo.__file__).parent
CONTEXT = 512

# The harness with what it imports; torch and transformers are this environment's own.
PACKAGES = (
    "lm_eval==0.4.13", "datasets", "evaluate", "pytablewriter", "rouge-score", "sacrebleu",
    "sqlitedict", "dill", "word2number", "more_itertools", "tenacity", "aiohttp", "tiktoken",
    "accelerate", "peft",
)  # fmt: skip

CHOICE = """
task: demo_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}\\n"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
PERPLEXITY = """
task: demo_perplexity
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}} {{{{right}}}}"
metric_list: [{{metric: word_perplexity}}, {{metric: bits_per_byte}}]
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the harness's command, in an environment of its own from the package index."""
    folder = tmp_path_factory.mktemp("harness")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    packages = next((folder / "lib").glob("python*")) / "site-packages"
    (packages / "shared.pth").write_text(sysconfig.get_paths()["purelib"])
    subprocess.run(
        [
            str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check",
            "--constraint", str(ROOT / "constraints.txt"), *PACKAGES,
        ],
        check=True,
        timeout=1200,
    )  # fmt: skip
    return folder / "bin" / "lm_eval"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two tasks made from the demo model's own corpus."""
    folder = tmp_path_factory.mktemp("tasks")
    lines = (DEMO / "corpus.jsonl").read_text("utf-8").splitlines()
    pairs = [(one["question"], one["answer"]) for one in map(json.loads, lines)]
    chance = random.Random(0)
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as file:
        for question, right in chance.sample(pairs, 24):
            choices = [right, *(answer for _, answer in chance.sample(pairs, 3))]
            chance.shuffle(choices)
            answer = choices.index(right)
            row = {"question": question, "right": right, "choices": choices, "answer": answer}
            file.write(json.dumps(row) + "\n")
    for name, text in (("choice", CHOICE), ("perplexity", PERPLEXITY)):
        (folder / f"{name}.yaml").write_text(text.format(data=folder / "questions.jsonl"))
    return folder


@pytest.fixture(scope="module")
def url(demo: PackagedModel, store: Store) -> Iterator[str]:
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [BIN / "mooring", "serve", "models:/demo@champion", "--port", port]
    with server([*command, "--dtype", "float32"], f"{address}/ready"):
        yield address


def scores(harness: Path, tasks: Path, output: Path, model: str, arguments: str) -> dict[str, Any]:
    """Run the harness and return every score that it found, by task and metric."""
    subprocess.run(
        [
            str(harness), "run", "--model", model, "--model_args", arguments,
            "--tasks", "demo_choice,demo_perplexity", "--include_path", str(tasks),
            "--output_path", str(output), "--device", "cpu", "--batch_size", "4",
        ],
        env={
            **os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(output / "home"),
            "OPENAI_API_KEY": "none", "OMP_NUM_THREADS": "1",
        },
        check=True,
        timeout=900,
    )  # fmt: skip
    (result,) = output.rglob("results_*.json")
    found = json.loads(result.read_text())["results"]
    return {
        f"{task}: {name}": value
        for task, values in found.items()
        for name, value in values.items()
        if isinstance(value, float) and "stderr" not in name
    }


@pytest.mark.slow
def test_scores_are_those_of_the_model_itself(
    harness: Path, tasks: Path, url: str, tmp_path: Path
) -> None:
    snapshot = DEMO / "model"
    own = scores(
        harness, tasks, tmp_path / "own", "hf",
        f"pretrained={snapshot},dtype=float32,max_length={CONTEXT}",
    )  # fmt: skip
    served = scores(
        harness, tasks, tmp_path / "served", "local-completions",
        f"model=demo,base_url={url}/v1/completions,tokenizer={snapshot},num_concurrent=4,"
        f"max_retries=1,tokenized_requests=True,max_length={CONTEXT}",
    )  # fmt: skip
    print(own, served)  # noqa: T201 - shown with -s
    assert len(own) >= 4
    assert own["demo_choice: acc,none"] > 0.5
    assert served == pytest.approx(own, rel=1e-3)
