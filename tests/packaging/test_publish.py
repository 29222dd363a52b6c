"""Publishing to MLflow: one standard model, no copies, no machine paths, all or nothing."""

import re
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

import mooring
from mooring.errors import InvalidInput, RegistryError, RegistryUnreachable, UnsafeSource
from mooring.generation import SAMPLING_FIELDS
from mooring.loading.bundle import open_bundle
from mooring.packaging import publish as publishing
from mooring.spec.manifest import Manifest
from tests.conftest import Store
from tests.models import tiny_llama
from tests.processes import BIN, free_port, server


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secret-machine-path") / "tiny-llama"
    tiny_llama(folder)
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Store:
    """Make a store for one test."""
    return Store.create(tmp_path)


def artifact_of(own: Store, uri: str) -> Path:
    return open_bundle(uri, tracking_uri=own.tracking_uri).folder


def everything_in(own: Store) -> tuple[list[str], list[str], list[Path]]:
    """Return logged models, registered models and files of a store."""
    client = MlflowClient(own.tracking_uri, own.tracking_uri)
    experiment = client.get_experiment_by_name(own.experiment)
    logged = [m.model_id for m in client.search_logged_models([experiment.experiment_id])]
    registered = [m.name for m in client.search_registered_models()]
    left = sorted(path for path in own.artifacts.rglob("*") if path.name != "models")
    return logged, registered, left


def test_the_artifact_is_a_standard_mlflow_model(own: Store, source: Path) -> None:
    packaged = own.package(str(source), "tiny", alias="champion", defaults={"temperature": 0.5})
    folder = artifact_of(own, packaged.uri)
    names = sorted(path.name for path in folder.iterdir() if path.name != "registered_model_meta")
    assert names == [
        "MLmodel", "README.md", "artifacts", "code", "conda.yaml", "input_example.json",
        "mooring_model.py", "python_env.yaml", "requirements.txt", "serving_input_example.json",
    ]  # fmt: skip
    model = mlflow.models.Model.load(str(folder))
    assert set(model.flavors) == {"python_function", "mooring"}
    assert model.flavors["python_function"]["model_code_path"] == "mooring_model.py"
    assert set(model.metadata["mooring"]["columns"]) == {"prompt", "messages"}
    defaults = {p.name: p.default for p in model.get_params_schema()}
    assert defaults["temperature"] == 0.5
    assert defaults["max_tokens"] == packaged.context_length
    assert set(defaults) == {field.name for field in SAMPLING_FIELDS}
    assert model.signature.outputs.input_names() == ["candidates"]
    assert model.load_input_example(str(folder)).to_dict("list") == {
        "prompt": ["What is machine learning?"]
    }


def test_columns_can_be_declared_for_registries_that_ask(own: Store, source: Path) -> None:
    packaged = mooring.package(
        mooring.ModelSpec(source=str(source)),
        name="declared",
        experiment=own.experiment,
        tracking_uri=own.tracking_uri,
        options=mooring.PackageOptions(signature="columns"),
    )
    model = mlflow.models.Model.load(str(artifact_of(own, packaged.uri)))
    assert model.signature.inputs.input_names() == ["prompt", "messages"]
    assert model.signature.inputs.required_input_names() == []


def test_weights_are_shared_and_not_copied(own: Store, source: Path) -> None:
    folder = artifact_of(own, own.package(str(source), "tiny").uri)
    weights = folder / "artifacts/snapshot/model.safetensors"
    assert weights.read_bytes() == (source / "model.safetensors").read_bytes()
    assert weights.stat().st_ino == (source / "model.safetensors").stat().st_ino


def test_weights_can_be_copied(own: Store, source: Path) -> None:
    packaged = mooring.package(
        mooring.ModelSpec(source=str(source)),
        name="copied",
        experiment=own.experiment,
        tracking_uri=own.tracking_uri,
        options=mooring.PackageOptions(weights="copy"),
    )
    weights = artifact_of(own, packaged.uri) / "artifacts/snapshot/model.safetensors"
    assert weights.read_bytes() == (source / "model.safetensors").read_bytes()
    assert weights.stat().st_ino != (source / "model.safetensors").stat().st_ino


def test_no_machine_path_and_no_pickle_is_left(own: Store, source: Path) -> None:
    folder = artifact_of(own, own.package(str(source), "tiny").uri)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if re.search(r"\.(pkl|pickle|bin|pt|pyc)$", path.name)]
    paths = [str(source.parent), str(own.artifacts), str(Path.home()), sys.prefix]
    for path in files:
        text = path.read_bytes().decode(errors="replace")
        assert not [p for p in paths if p in text], path
        assert "secret-machine-path" not in text, path


def test_packaging_generates_nothing_unless_asked(
    own: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mooring.api.package as packaging

    asked: list[Path] = []
    monkeypatch.setattr(packaging, "smoke_test", asked.append)
    own.package(str(source), "quiet")
    assert asked == []


def test_the_smoke_test_answers_from_the_finished_artifact(own: Store, source: Path) -> None:
    packaged = mooring.package(
        mooring.ModelSpec(source=str(source)),
        name="tried",
        experiment=own.experiment,
        tracking_uri=own.tracking_uri,
        options=mooring.PackageOptions(smoke_test=True),
    )
    assert packaged.version == "1"


def test_registry_names_alias_tags_and_card(own: Store, source: Path) -> None:
    mooring.package(
        mooring.ModelSpec(source=str(source)),
        name="tiny-1.5",
        alias="champion",
        tags={"team": "search"},
        experiment=own.experiment,
        tracking_uri=own.tracking_uri,
    )
    second = own.package(str(source), "tiny-1.5", alias="champion")
    client = MlflowClient(own.tracking_uri, own.tracking_uri)
    assert second.uri == "models:/tiny-1.5/2"
    assert str(client.get_model_version_by_alias("tiny-1.5", "champion").version) == "2"
    first = client.get_model_version("tiny-1.5", "1")
    assert first.tags["team"] == "search"
    assert first.tags["mooring.source"] == "tiny-llama"
    assert first.description.startswith("# tiny-1.5\n")
    assert client.get_logged_model(second.model_id).status == "READY"


class _Interrupted(KeyboardInterrupt):
    pass


@pytest.mark.parametrize("failure", [RegistryError("refused"), _Interrupted()])
@pytest.mark.parametrize("step", ["_link_to_run", "_register"])
def test_a_failure_leaves_nothing_behind(
    own: Store,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    step: str,
) -> None:
    def fail(*_: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(publishing, step, fail)
        with pytest.raises(type(failure)):
            own.package(str(source), "broken")
    assert everything_in(own) == ([], [], [])
    assert own.package(str(source), "broken").uri == "models:/broken/1"


def test_a_failed_smoke_test_publishes_nothing(
    own: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mooring.api.package as packaging

    def fail(folder: Path) -> None:
        assert (folder / "MLmodel").is_file()
        raise UnsafeSource("no")

    monkeypatch.setattr(packaging, "smoke_test", fail)
    with pytest.raises(UnsafeSource):
        mooring.package(
            mooring.ModelSpec(source=str(source)),
            name="broken",
            experiment=own.experiment,
            tracking_uri=own.tracking_uri,
            options=mooring.PackageOptions(smoke_test=True),
        )
    assert everything_in(own) == ([], [], [])


def test_a_full_disk_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    """Package onto a real file system of one megabyte, made for this test alone."""
    script = f"""
mount -t tmpfs -o size=1m tmpfs {tmp_path} &&
head -c 900k /dev/zero > {tmp_path}/filler &&
{BIN}/python - <<'END'
from mooring.errors import NotEnoughSpace
from mooring.packaging.artifact import ArtifactPlan, Lineage, write_artifact
from mooring.packaging.retrying import Retrying
from mooring.packaging.storing import ArtifactStore
from pathlib import Path
import shutil
source, target = Path({str(source)!r}), Path({str(tmp_path)!r}) / "artifacts"
def write(folder, weights, progress):
    from mooring.packaging.placing import place_file
    place_file(source / "model.safetensors", folder / "model.safetensors", weights)
try:
    ArtifactStore(str(target)).save(write, 2_000_000, Retrying(print, 0), lambda count: None)
except NotEnoughSpace as error:
    print(error.message)
print(sorted(path.name for path in target.parent.iterdir()))
END
"""
    ran = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
    )
    message, left = ran.stdout.splitlines()
    assert message.startswith("The disk that holds the artifact is full")
    assert left == "['filler']"


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "../up", "a..b", " a", "a\n", "x" * 300, "%s"])
def test_bad_names_are_refused_before_anything_is_done(own: Store, source: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="A model name must have"):
        own.package(str(source), name)
    assert everything_in(own) == ([], [], [])


@pytest.mark.parametrize("alias", ["", "latest", "v1", "a b", "a/b"])
def test_bad_aliases_are_refused(own: Store, source: Path, alias: str) -> None:
    with pytest.raises(InvalidInput, match="An alias must have"):
        own.package(str(source), "tiny", alias=alias)
    assert everything_in(own) == ([], [], [])


def test_an_unreachable_server_is_said_at_once(source: Path) -> None:
    with pytest.raises(RegistryUnreachable, match="The tracking server must answer within 5 s"):
        mooring.package(
            mooring.ModelSpec(source=str(source)),
            name="tiny",
            tracking_uri=f"http://127.0.0.1:{free_port()}",
        )


def test_a_real_server_with_proxied_artifacts(source: Path, tmp_path: Path) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [
        BIN / "mlflow", "server", "--port", port, "--workers", 1,
        "--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}",
        "--artifacts-destination", tmp_path / "served", "--serve-artifacts",
    ]  # fmt: skip
    with server(command, f"{uri}/health"):
        packaged = mooring.package(
            mooring.ModelSpec(source=str(source)), name="far", alias="champion", tracking_uri=uri
        )
        assert packaged.uri == "models:/far/1"
        cache = tmp_path / "cache"
        bundle = open_bundle("models:/far@champion", tracking_uri=uri, cache=cache)
        assert (bundle.name, bundle.version) == ("far", "1")
        assert bundle.folder.parent == cache
        (bundle.folder / "kept").touch()
        again = open_bundle("models:/far/1", tracking_uri=uri, cache=cache)
        assert (again.folder / "kept").exists()
        assert again.manifest.digest == packaged.digest
        assert sorted(p.name for p in cache.iterdir()) == [bundle.folder.name]
        weights = bundle.snapshot / "model.safetensors"
        assert weights.read_bytes() == (source / "model.safetensors").read_bytes()
    assert Manifest.read(bundle.folder / "artifacts/manifest.json") == bundle.manifest
