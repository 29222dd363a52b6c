"""Packaging that goes wrong: what others have published stays, and what is unsafe is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mooring.errors import UnsafeSource
from tests.conftest import Store
from tests.models import tiny_llama


def test_a_failure_takes_no_version_of_another_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first makes the registered model, another adds a version, then the first fails."""
    own, source = Store.create(tmp_path), tmp_path / "tiny-llama"
    tiny_llama(source)

    def fail(*_: object) -> None:
        assert own.package(str(source), "shared").version == "2"
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", fail)
    with pytest.raises(KeyboardInterrupt):
        own.package(str(source), "shared", alias="champion")
    client = MlflowClient(own.tracking_uri, own.tracking_uri)
    (version,) = client.search_model_versions("name = 'shared'")
    assert str(version.version) == "2"
    model_id = version.source.removeprefix("models:/")
    assert client.get_logged_model(model_id).status == "READY"
    assert len(list(own.artifacts.rglob("MLmodel"))) == 1


def pickled(source: Path) -> None:
    (source / "model.safetensors").rename(source / "pytorch_model.bin")


def index_that_leaves(source: Path) -> None:
    (source / "model.safetensors").rename(source.parent / "model.safetensors")
    index = {"weight_map": {"lm_head.weight": "../model.safetensors"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))


def link_that_leaves(source: Path) -> None:
    (source.parent / "secret").write_text("{}")
    (source / "added_tokens.json").symlink_to(source.parent / "secret")


def names_alike(source: Path) -> None:
    for name in ("LICENSE.md", "LICENSE.MD"):
        (source / name).write_text(name)


def own_attention(source: Path) -> None:
    config = json.loads((source / "config.json").read_text())
    config["_attn_implementation_internal"] = "somebody/kernel"
    (source / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (pickled, r"Weights must be safetensors: pickles can run code"),
        (index_that_leaves, r"plain paths below the model folder, without `\.\.`"),
        (link_that_leaves, r"Files must lie below the model folder"),
        (names_alike, r"must differ in more than case. Given: LICENSE\.\w+ and LICENSE"),
        (own_attention, r"config\.json must not set `_attn_implementation_internal`"),
    ],
)
def test_what_is_unsafe_is_refused_though_its_code_is_trusted(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    own, source = Store.create(tmp_path), tiny_llama(tmp_path / "tiny-llama")
    spoil(source)
    with pytest.raises(UnsafeSource, match=reason):
        own.package(str(source), "unsafe", trust_remote_code=True)
    client = MlflowClient(own.tracking_uri, own.tracking_uri)
    assert client.search_registered_models() == []
    assert not own.artifacts.exists()
