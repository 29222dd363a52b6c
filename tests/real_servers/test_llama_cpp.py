"""A real llama.cpp behind Mooring, on a GGUF file of the demo model: its tokens are our own."""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import transformers

import mooring
from mooring.api.package import PackageOptions
from mooring.loading.bundle import open_bundle
from mooring.settings import EngineSettings
from tests.conftest import Store
from tests.doors.answers import ANSWERS, FIRST, user
from tests.processes import BIN, free_port, server
from tests.real_servers.conftest import environment_of

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SERVER = HERE / "llama_server.py"
PACKAGES = ("xllamacpp==2026.10.11549", "gguf==0.19.0", "safetensors>=0.8")
PROMPT = "What is a model registry? What is a model?"
GREEDY = {"temperature": 0, "max_tokens": 24}


@pytest.fixture(scope="module")
def artifact(store: Store) -> Path:
    """Package the demo model with golden tokens."""
    packaged = mooring.package(
        mooring.ModelSpec(source="demo"),
        name="behind-llama",
        experiment=store.experiment,
        tracking_uri=store.tracking_uri,
        options=PackageOptions(golden=True),
    )
    return open_bundle(packaged.uri, tracking_uri=store.tracking_uri).folder


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_of_demo(tmp_path_factory.mktemp("gguf"))


@pytest.fixture(scope="module")
def serving(artifact: Path, model_file: Path) -> Iterator[tuple[str, int]]:
    """Serve it with llama.cpp behind: the address, and the server's process id."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [BIN / "mooring", "serve", artifact, "--port", port, *behind(model_file)]
    with server(command, f"{address}/ready") as process:
        yield address, process.pid


def gguf_of_demo(folder: Path, change: Callable[[Any], None] = lambda _: None) -> Path:
    """Write the demo model as a GGUF file in float32, after a change."""
    source = mooring.demo.snapshot_path()
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype="float32")
    change(model)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    python = environment_of(*PACKAGES) / "python"
    script = [python, HERE / "write_gguf.py", folder, file := folder / "model.gguf"]
    subprocess.run([str(part) for part in script], check=True, timeout=120, env=own_environment())
    return file


def own_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def behind(file: Path) -> list[str]:
    """Return the options that put llama.cpp with this file behind Mooring."""
    python = environment_of(*PACKAGES) / "python"
    command = (
        f"env -u PYTHONPATH {shlex.quote(str(python))} {shlex.quote(str(SERVER))} "
        f"--model {shlex.quote(str(file))} --host 127.0.0.1 --port {{port}} "
        "--ctx-size {context_length} --parallel {max_running} --kv-unified"
    )
    return [
        "--engine", "upstream", "--upstream-preset", "llama.cpp", "--upstream-command", command,
    ]  # fmt: skip


def complete(address: str, **values: Any) -> dict[str, Any]:
    body = {"model": "behind-llama", "prompt": PROMPT, **values}
    response = httpx.post(f"{address}/v1/completions", json=body, timeout=120)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_every_golden_token_is_that_of_transformers(artifact: Path, model_file: Path) -> None:
    command = [BIN / "mooring", "verify", artifact, "--json", *behind(model_file)]
    ran = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["engine_version"], told["golden_precision"]) == ("llama.cpp", "float32")
    assert told["tokens"] > 30
    assert told["partings"] == []


def test_another_model_does_not_serve(artifact: Path, tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.transformer.blocks[3].attn.out_proj.weight.data.neg_()

    file = gguf_of_demo(tmp_path, change)
    command = [BIN / "mooring", "serve", artifact, "--port", "0", *behind(file)]
    ran = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 1
    assert "The upstream engine must give this model's golden tokens" in ran.stderr


def test_conversations_are_answered_whole_and_in_pieces(serving: tuple[str, int]) -> None:
    with closing(openai.OpenAI(base_url=f"{serving[0]}/v1", api_key="none")) as client:
        for question, expected in ANSWERS.items():
            asked: Any = {
                "model": "behind-llama", "messages": user(question), "temperature": 0
            }  # fmt: skip
            answer = client.chat.completions.create(**asked)
            assert answer.choices[0].message.content == expected
            chunks = list(client.chat.completions.create(**asked, stream=True))
            pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
            assert "".join(pieces) == expected
            assert len([piece for piece in pieces if piece]) > 3


def test_whatever_is_asked_the_text_is_ours(artifact: Path, serving: tuple[str, int]) -> None:
    variations: list[dict[str, Any]] = [
        {},
        {"repetition_penalty": 1.5},
        {"logit_bias": {"70": 100}, "max_tokens": 5},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "top_p": 1e-6},
        {"temperature": 1.0, "min_p": 1.0},
        {"stop": ["model"]},
    ]
    with mooring.load(str(artifact), engine=EngineSettings(dtype="float32")) as model:
        for variation in variations:
            values = {**GREEDY, **variation}
            given = complete(serving[0], **values)["choices"][0]["text"]
            assert [given] == model.predict(PROMPT, values), variation


def test_a_seed_decides(serving: tuple[str, int]) -> None:
    drawn = {**GREEDY, "temperature": 2.0}
    first, again, other = (
        complete(serving[0], **drawn, seed=seed)["choices"] for seed in (-5, -5, 6)
    )
    assert first == again
    assert first != other


def test_a_schema_is_kept_to(serving: tuple[str, int]) -> None:
    schema = {
        "type": "object", "properties": {"right": {"type": "boolean"}},
        "required": ["right"], "additionalProperties": False,
    }  # fmt: skip
    asked: Any = {
        "model": "behind-llama", "messages": user(FIRST), "temperature": 0, "max_tokens": 60,
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "verdict", "schema": schema},
        },
    }  # fmt: skip
    with closing(openai.OpenAI(base_url=f"{serving[0]}/v1", api_key="none")) as client:
        answer = client.chat.completions.create(**asked)
    assert set(json.loads(answer.choices[0].message.content or "")) == {"right"}


def test_it_is_started_again_when_it_dies(serving: tuple[str, int]) -> None:
    expected = complete(serving[0], **GREEDY)["choices"]
    family = [
        member for member in psutil.Process(serving[1]).children(recursive=True)
        if str(SERVER) in member.cmdline()
    ]  # fmt: skip
    [engine] = [one for one in family if "guardian.py" not in " ".join(one.cmdline())]
    engine.send_signal(signal.SIGKILL)
    with httpx.Client(base_url=serving[0], timeout=60) as client:
        while client.get("/ready").status_code == 200:
            time.sleep(0.05)
        while client.get("/ready").status_code != 200:
            time.sleep(0.2)
    assert complete(serving[0], **GREEDY)["choices"] == expected
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
