"""The registry changes under a server: what was loaded goes on, whatever an alias says by now."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

import mooring
from tests.conftest import tracking_server
from tests.engines.process.children import children, wait_for
from tests.models import tiny_llama, tiny_qwen2
from tests.processes import BIN, free_port, server

EXPERIMENT = "moved"
# Past its end token, so that a stream is long.
ASKED = {"model": "moved", "prompt": "abc", "max_tokens": 200, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a tracking server with two versions of a model, the first of them the champion."""
    folder = tmp_path_factory.mktemp("tracking")
    with tracking_server(folder, free_port()) as url:
        MlflowClient(url, url).create_experiment(EXPERIMENT)
        for alias, make in (("champion", tiny_llama), (None, tiny_qwen2)):
            mooring.package(
                mooring.ModelSpec(source=str(make(folder / make.__name__))),
                name="moved",
                alias=alias,
                experiment=EXPERIMENT,
                tracking_uri=url,
            )
        yield url


def served(tracking: str, port: int) -> list[object]:
    return [
        BIN / "mooring", "serve", "models:/moved@champion", "--port", port,
        "--tracking-uri", tracking,
    ]  # fmt: skip


def answer(url: str) -> tuple[str, str]:
    """Return who answered, and what."""
    response = httpx.post(f"{url}/v1/completions", json=ASKED, timeout=60)
    assert response.status_code == 200, response.text
    return response.headers["x-mooring-model"], response.json()["choices"][0]["text"]


def test_an_alias_that_moves_changes_nothing_that_is_served(tracking: str, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    client = MlflowClient(tracking, tracking)
    with server(served(tracking, port), f"{url}/ready") as process:
        first = answer(url)
        assert first[0].startswith("moved/1@")
        with httpx.stream(
            "POST", f"{url}/v1/completions", json=ASKED | {"stream": True}, timeout=60
        ) as stream:
            lines = (line for line in stream.iter_lines() if line.startswith("data: {"))
            pieces = [next(lines)]
            client.set_registered_model_alias("moved", "champion", "2")
            pieces += lines
            assert stream.headers["x-mooring-model"] == first[0]
        texts = [json.loads(piece.removeprefix("data: "))["choices"] for piece in pieces]
        assert "".join(choices[0]["text"] for choices in texts if choices) == first[1]
        assert answer(url) == first
        # An engine that dies comes back with the version that the server was started with.
        (engine,) = children(process.pid)
        engine.kill()
        wait_for(lambda: children(process.pid) not in ([engine], []))
        wait_for(lambda: httpx.get(f"{url}/ready").status_code == 200)
        assert answer(url) == first
    with server(served(tracking, port), f"{url}/ready"):
        second = answer(url)
    assert second[0].startswith("moved/2@")
    assert second[1] != first[1]
