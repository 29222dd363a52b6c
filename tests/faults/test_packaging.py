"""Packaging that goes wrong beside other packaging: what others have published stays."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

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
