"""The manifest: written, read back, compared with the files, refused when it does not fit."""

import json
from pathlib import Path

import pytest

from mooring.errors import CorruptArtifact
from mooring.spec.facts import ModelFacts
from mooring.spec.manifest import (
    SNAPSHOT_FOLDER,
    Conversion,
    Manifest,
    Origin,
    SnapshotFile,
    sha256_of,
)
from mooring.spec.prompt import PromptFormat

FACTS = ModelFacts(
    architecture="MptForCausalLM",
    model_type="mpt",
    parameters=10,
    weight_bytes=20,
    stored_dtypes={"BF16": 10},
    layers=1,
    vocabulary_size=5,
    context_length=8,
    cache_values_per_token=4,
    own_code=False,
    end_token_ids=(2,),
)


def make(snapshot: Path) -> Manifest:
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "big.safetensors").write_bytes(bytes(2 * 1024 * 1024))
    files = tuple(
        SnapshotFile(path=path.name, size=path.stat().st_size, sha256=sha256_of(path))
        for path in sorted(snapshot.iterdir())
    )
    return Manifest(
        mooring_version="0.1.0",
        origin=Origin(kind="folder", name="x"),
        facts=FACTS,
        context_length=8,
        prompt=PromptFormat(kind="plain"),
        defaults={"temperature": 0.5, "stop": ["x"], "logit_bias": {"3": 1.5}},
        dtype="auto",
        trust_remote_code=False,
        requirements=("mlflow==3.17.2",),
        files=files,
    )


def test_round_trip(tmp_path: Path) -> None:
    manifest = make(tmp_path / SNAPSHOT_FOLDER)
    manifest.write(tmp_path / "manifest.json")
    again = Manifest.read(tmp_path / "manifest.json")
    assert again == manifest
    assert again.digest == manifest.digest
    assert again.sampling.temperature == 0.5
    assert again.sampling.logit_bias == ((3, 1.5),)


def test_equal_files_mean_equal_digests(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "b")
    assert first.digest == second.digest
    changed = first.files[0].model_copy(update={"sha256": "0" * 64})
    assert first.model_copy(update={"files": (changed, first.files[1])}).digest != first.digest


def test_a_missing_or_shorter_file_is_named(tmp_path: Path) -> None:
    manifest = make(tmp_path / SNAPSHOT_FOLDER)
    manifest.verify(tmp_path, hashes=True)
    (tmp_path / SNAPSHOT_FOLDER / "big.safetensors").write_bytes(b"short")
    with pytest.raises(CorruptArtifact, match=r"big\.safetensors: size differs.*2097152.*5 found"):
        manifest.verify(tmp_path, hashes=False)
    (tmp_path / SNAPSHOT_FOLDER / "big.safetensors").unlink()
    with pytest.raises(CorruptArtifact, match=r"big\.safetensors: the file is missing"):
        manifest.verify(tmp_path, hashes=False)


def test_a_flipped_byte_is_found_at_once_in_small_files_and_on_request_in_large(
    tmp_path: Path,
) -> None:
    manifest = make(tmp_path / SNAPSHOT_FOLDER)
    big = tmp_path / SNAPSHOT_FOLDER / "big.safetensors"
    big.write_bytes(b"\x01" + big.read_bytes()[1:])
    manifest.verify(tmp_path, hashes=False)
    with pytest.raises(CorruptArtifact, match=r"big\.safetensors: sha256 differs"):
        manifest.verify(tmp_path, hashes=True)
    (tmp_path / SNAPSHOT_FOLDER / "config.json").write_text("[]")
    with pytest.raises(CorruptArtifact, match=r"config\.json: sha256 differs"):
        manifest.verify(tmp_path, hashes=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "not a model packaged by Mooring"),
        ("", "is damaged"),
        ("{}", "is damaged"),
        ("[1]", "is damaged"),
        (json.dumps({"version": 4, "new": 1}), "version <= 3. Given: 4. Upgrade Mooring"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CorruptArtifact, match=said):
        Manifest.read(tmp_path / "manifest.json")


@pytest.mark.parametrize(
    ("version", "lacks"), [(1, ("golden", "conversions")), (2, ("conversions",))]
)
def test_reads_older_versions(tmp_path: Path, version: int, lacks: tuple[str, ...]) -> None:
    path = tmp_path / "manifest.json"
    make(tmp_path / SNAPSHOT_FOLDER).write(path)
    content = json.loads(path.read_text()) | {"version": version}
    path.write_text(json.dumps({k: value for k, value in content.items() if k not in lacks}))
    manifest = Manifest.read(path)
    assert manifest.golden is None
    assert manifest.conversions == ()


def test_a_conversion_is_verified_like_the_snapshot(tmp_path: Path) -> None:
    manifest = make(tmp_path / SNAPSHOT_FOLDER)
    folder = tmp_path / "artifacts/openvino-int8"
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"weights")
    file = SnapshotFile(path="model.bin", size=7, sha256=sha256_of(folder / "model.bin"))
    conversion = Conversion(weights="int8", paged=True, files=(file,), tools={"nncf": "3.4.0"})
    whole = manifest.model_copy(update={"conversions": (conversion,)})
    assert (tmp_path / conversion.folder, conversion.name) == (folder, "openvino:int8")
    assert whole.digest == manifest.digest
    assert whole.size == manifest.size + 7
    whole.write(tmp_path / "manifest.json")
    assert Manifest.read(tmp_path / "manifest.json") == whole
    whole.verify(tmp_path, hashes=False)
    (folder / "model.bin").write_bytes(b"weighty")
    with pytest.raises(CorruptArtifact, match=r"model\.bin: sha256 differs"):
        whole.verify(tmp_path, hashes=False)
