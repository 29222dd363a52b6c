"""Tiny models on disk, and the unmodified hub client pointed at a hub on this machine."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import close_session, constants
from safetensors.torch import save_file

from mooring.packaging.snapshot import Snapshot, fetch_snapshot
from mooring.spec.model_spec import ModelSpec
from tests import models
from tests.hub_server import HubServer, hub_server

Serve = Callable[..., HubServer]
FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return models.tiny_llama(tmp_path / "llama")


@pytest.fixture
def remote_code(tmp_path: Path) -> Path:
    return models.tiny_remote_code(tmp_path / "harbor")


@pytest.fixture
def serve_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start a hub with the given models, and let the client of this process speak to it."""
    with ExitStack() as servers:

        def serve(**folders: Path) -> HubServer:
            by_id = {f"acme/{name}": folder for name, folder in folders.items()}
            server = servers.enter_context(hub_server(by_id))
            template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "ENDPOINT", server.url)
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
            monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
            monkeypatch.delenv("HF_TOKEN", raising=False)
            return server

        yield serve
    close_session()


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file, which is made if missing; None removes a key."""
    content = json.loads(path.read_text()) if path.exists() else {}
    content |= changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def fetch(source: str | Path, **fields: object) -> Snapshot:
    spec = ModelSpec.model_validate({"source": str(source), **fields})
    return fetch_snapshot(spec, show_progress=False)


def shard(folder: Path) -> None:
    """Replace the one file of weights by an index and two shards, and add a file of no use."""
    (folder / "model.safetensors").unlink()
    for name in ("a", "b", "unused"):
        save_file({name: torch.ones(2)}, folder / f"{name}.safetensors")
    edit_json(
        folder / "model.safetensors.index.json",
        weight_map={"a": "a.safetensors", "b": "b.safetensors"},
    )
