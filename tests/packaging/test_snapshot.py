import re
import shutil
from pathlib import Path

import pytest

from mooring.errors import (
    BrokenSource,
    InvalidInput,
    SourceNotFound,
    UnsafeSource,
)
from mooring.packaging.snapshot import Snapshot
from mooring.spec.manifest import Origin
from tests.packaging.conftest import FILES, fetch, shard


class TestFolder:
    def test_its_files_are_taken_and_its_place_is_not_told(self, llama: Path) -> None:
        (llama / "notes.txt").write_text("not part of the model")
        assert fetch(llama) == Snapshot(llama, Origin(kind="folder", name="llama"), FILES)

    def test_a_relative_path_works(self, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(llama.parent)
        assert fetch("llama").path == fetch("./llama").path == llama

    def test_the_home_folder_is_expanded(
        self, llama: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(llama.parent))
        assert fetch("~/llama").path == llama

    def test_code_comes_along_only_if_trusted(self, remote_code: Path) -> None:
        code = {"configuration_harbor.py", "modeling_harbor.py"}
        assert set(fetch(remote_code, trust_remote_code=True).files) == {*FILES, *code}
        assert set(fetch(remote_code).files) == set(FILES)

    def test_only_shards_of_the_index_are_taken(self, llama: Path) -> None:
        shard(llama)
        names = {name for name in fetch(llama).files if ".safetensors" in name}
        assert names == {"a.safetensors", "b.safetensors", "model.safetensors.index.json"}

    def test_a_missing_folder_is_not_found(self, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFound, match=re.escape(f"Given: {tmp_path}/nothing.")):
            fetch(tmp_path / "nothing")

    @pytest.mark.parametrize("source", ["/a\0b", "./" + "x" * 5000, "~nobody-of-that-name/x"])
    def test_a_path_that_cannot_be(self, source: str) -> None:
        with pytest.raises(SourceNotFound, match="folder must exist"):
            fetch(source)

    def test_a_file_is_not_a_folder(self, llama: Path) -> None:
        with pytest.raises(SourceNotFound, match="folder must exist"):
            fetch(llama / "config.json")

    def test_a_revision_makes_no_sense(self, llama: Path) -> None:
        with pytest.raises(InvalidInput, match="hub ids only") as caught:
            fetch(llama, revision="main")
        assert caught.value.param == "revision"

    def test_a_link_out_of_the_tree_is_unsafe(self, llama: Path, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("{}")
        (llama / "added_tokens.json").symlink_to(secret)
        with pytest.raises(UnsafeSource, match=r"Given: added_tokens\.json, a link to") as caught:
            fetch(llama)
        assert str(secret) in caught.value.message

    def test_a_link_inside_the_tree_is_fine(self, llama: Path) -> None:
        (llama / "store").mkdir()
        shutil.move(llama / "tokenizer.json", llama / "store" / "data")
        (llama / "tokenizer.json").symlink_to("store/data")
        assert fetch(llama).files == FILES

    def test_a_folder_of_the_hub_cache_may_link_to_its_blobs(
        self, llama: Path, tmp_path: Path
    ) -> None:
        repository = tmp_path / "models--acme--tiny"
        (repository / "blobs").mkdir(parents=True)
        snapshot = repository / "snapshots" / ("0" * 40)
        shutil.copytree(llama, snapshot)
        shutil.move(snapshot / "config.json", repository / "blobs" / "abc")
        (snapshot / "config.json").symlink_to("../../blobs/abc")
        assert fetch(snapshot).files == FILES

    def test_a_dangling_link_is_no_file(self, llama: Path) -> None:
        (llama / "model.safetensors").unlink()
        (llama / "model.safetensors").symlink_to("gone")
        with pytest.raises(BrokenSource, match=r"must have model\.safetensors"):
            fetch(llama)

    def test_a_folder_knows_no_published_hash(self, llama: Path) -> None:
        assert fetch(llama).published_sha256("model.safetensors") is None


class TestDemo:
    def test_it_needs_no_network(self) -> None:
        snapshot = fetch("demo")
        assert snapshot.origin == Origin(kind="demo", name="demo")
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(snapshot.files)
        assert all((snapshot.path / name).is_file() for name in snapshot.files)


def test_a_copy_of_mooring_without_the_demo_model_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mooring.demo.snapshot_path", lambda: tmp_path / "model")
    with pytest.raises(SourceNotFound, match="Import mooring before loading a model with MLflow"):
        fetch("demo")
