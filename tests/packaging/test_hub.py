import errno
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from mooring.errors import (
    HubUnreachable,
    NotEnoughSpace,
    SourceError,
    SourceNotFound,
    UnsafeSource,
)
from mooring.packaging.snapshot import fetch_snapshot
from mooring.spec.manifest import Origin
from mooring.spec.model_spec import ModelSpec
from tests.hub_server import TOKEN
from tests.packaging.conftest import FILES, Serve, fetch, shard


class TestHub:
    def test_a_model_comes_at_a_fixed_commit(self, llama: Path, serve_hub: Serve) -> None:
        (llama / "pytorch_model.bin").write_bytes(b"pickle")
        hub = serve_hub(tiny=llama)
        commit = hub.commit("acme/tiny")
        snapshot = fetch("acme/tiny", revision="main")
        assert snapshot.origin == Origin(
            kind="hub", name="acme/tiny", revision="main", commit=commit
        )
        assert snapshot.path.name == commit
        assert snapshot.files == FILES
        for name in FILES:
            assert (snapshot.path / name).read_bytes() == (llama / name).read_bytes()
        resolved = [r.path.split("/")[4] for r in hub.requests if "/resolve/" in r.path]
        assert set(resolved) == {commit}
        assert hub.downloads("pytorch_model.bin") == []

    def test_the_published_hash_is_known(self, llama: Path, serve_hub: Serve) -> None:
        serve_hub(tiny=llama)
        snapshot = fetch("acme/tiny")
        digest = sha256((llama / "model.safetensors").read_bytes()).hexdigest()
        assert snapshot.published_sha256("model.safetensors") == digest
        assert snapshot.published_sha256("config.json") is None

    def test_only_shards_of_the_index_are_downloaded(self, llama: Path, serve_hub: Serve) -> None:
        shard(llama)
        hub = serve_hub(tiny=llama)
        snapshot = fetch("acme/tiny")
        assert {"a.safetensors", "b.safetensors"} < set(snapshot.files)
        assert "unused.safetensors" not in snapshot.files
        assert hub.downloads("unused.safetensors") == []

    def test_an_unsafe_model_is_refused_before_its_weights(
        self, remote_code: Path, serve_hub: Serve
    ) -> None:
        hub = serve_hub(harbor=remote_code)
        with pytest.raises(UnsafeSource, match=r"modeling_harbor\.py"):
            fetch("acme/harbor")
        assert hub.downloads("model.safetensors") == []
        assert hub.downloads("modeling_harbor.py") == []

    def test_a_second_fetch_downloads_nothing(self, llama: Path, serve_hub: Serve) -> None:
        hub = serve_hub(tiny=llama)
        first = fetch("acme/tiny")
        hub.requests.clear()
        assert fetch("acme/tiny") == first
        assert [request.path for request in hub.requests] == [
            "/api/models/acme/tiny",
            f"/api/models/acme/tiny/revision/{first.origin.commit}",
        ]

    def test_a_cut_download_goes_on_where_it_broke(self, llama: Path, serve_hub: Serve) -> None:
        save_file({"weight": torch.arange(3_000_000.0)}, llama / "model.safetensors")
        hub = serve_hub(tiny=llama)
        hub.cut_after = 11_000_000
        snapshot = fetch("acme/tiny")
        attempts = hub.downloads("model.safetensors")
        chunk = constants.DOWNLOAD_CHUNK_SIZE
        assert [request.range for request in attempts] == [None, f"bytes={chunk}-"]
        assert (
            snapshot.published_sha256("model.safetensors")
            == sha256((snapshot.path / "model.safetensors").read_bytes()).hexdigest()
        )

    def test_after_a_failure_whole_files_are_kept(self, llama: Path, serve_hub: Serve) -> None:
        shard(llama)
        hub = serve_hub(tiny=llama)
        hub.broken.add("b.safetensors")
        with pytest.raises(HubUnreachable, match="answered with status 500"):
            fetch("acme/tiny")
        hub.broken.clear()
        snapshot = fetch("acme/tiny")
        assert len(hub.downloads("a.safetensors")) == 1
        assert len(hub.downloads("config.json")) == 1
        content = (snapshot.path / "b.safetensors").read_bytes()
        assert content == (llama / "b.safetensors").read_bytes()

    def test_without_a_hub_the_cached_commit_serves(self, llama: Path, serve_hub: Serve) -> None:
        hub = serve_hub(tiny=llama)
        online = fetch("acme/tiny")
        hub.status = 500
        assert fetch("acme/tiny") == online

    def test_without_a_hub_half_a_model_does_not_serve(self, llama: Path, serve_hub: Serve) -> None:
        hub = serve_hub(tiny=llama)
        snapshot = fetch("acme/tiny")
        (snapshot.path / "model.safetensors").unlink()
        hub.status = 503
        with pytest.raises(HubUnreachable, match="status 503 for 'acme/tiny'"):
            fetch("acme/tiny")

    def test_offline_the_cached_commit_serves(
        self, llama: Path, serve_hub: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub = serve_hub(tiny=llama)
        online = fetch("acme/tiny")
        hub.requests.clear()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert fetch("acme/tiny") == online
        assert fetch("acme/tiny", revision=online.origin.commit).path == online.path
        assert hub.requests == []

    def test_offline_nothing_else_does(
        self, llama: Path, serve_hub: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        serve_hub(tiny=llama)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(HubUnreachable, match="HF_HUB_OFFLINE forbids the network"):
            fetch("acme/tiny")

    def test_a_hub_that_is_not_there(
        self, serve_hub: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        serve_hub()
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(HubUnreachable, match=r"http://127\.0\.0\.1:9 broke off or does not"):
            fetch("acme/tiny")

    def test_something_that_is_no_hub(self, llama: Path, serve_hub: Serve) -> None:
        hub = serve_hub(tiny=llama)
        hub.status = 200
        with pytest.raises(HubUnreachable, match="answers, but not as a Hugging Face hub"):
            fetch("acme/tiny")

    def test_an_unknown_model(self, serve_hub: Serve) -> None:
        serve_hub()
        with pytest.raises(SourceNotFound, match="No model 'acme/none' on http") as caught:
            fetch("acme/none")
        assert "HF_TOKEN" in caught.value.message
        assert not caught.value.retryable

    def test_an_unknown_revision(self, llama: Path, serve_hub: Serve) -> None:
        serve_hub(tiny=llama)
        with pytest.raises(SourceNotFound, match="'acme/tiny' has no revision 'v9'"):
            fetch("acme/tiny", revision="v9")

    @pytest.mark.parametrize("source", ["a/b/c", "two words", "owner/", "-x", "a\0b", "x" * 5000])
    def test_what_is_neither_folder_nor_hub_id(self, source: str, serve_hub: Serve) -> None:
        hub = serve_hub()
        with pytest.raises(SourceNotFound, match="must be `demo`, an existing folder or a hub id"):
            fetch(source)
        assert hub.requests == []

    def test_a_gated_model_says_how_to_get_it(
        self, llama: Path, serve_hub: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub = serve_hub(tiny=llama)
        hub.gated.add("acme/tiny")
        with pytest.raises(SourceNotFound, match=r"is gated\. Accept its terms on the hub"):
            fetch("acme/tiny")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert fetch("acme/tiny").files == FILES

    def test_a_private_model_needs_a_token(
        self, llama: Path, serve_hub: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub = serve_hub(tiny=llama)
        hub.private.add("acme/tiny")
        with pytest.raises(SourceNotFound, match="for a private model set HF_TOKEN"):
            fetch("acme/tiny")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert fetch("acme/tiny").files == FILES
        storage = [r for r in hub.requests if r.path.startswith("/large/")]
        assert [request.authorization for request in storage] == [None]

    @pytest.mark.parametrize("status", [429, 500, 502])
    def test_a_hub_in_trouble_may_be_asked_again(
        self, llama: Path, serve_hub: Serve, status: int
    ) -> None:
        serve_hub(tiny=llama).status = status
        with pytest.raises(HubUnreachable, match=f"answered with status {status}") as caught:
            fetch("acme/tiny")
        assert caught.value.retryable

    def test_a_hub_that_forbids(self, llama: Path, serve_hub: Serve) -> None:
        serve_hub(tiny=llama).status = 403
        with pytest.raises(SourceNotFound, match=r"refuses access to 'acme/tiny' \(status 403\)"):
            fetch("acme/tiny")

    def test_too_little_space_is_seen_before_the_weights(
        self, llama: Path, serve_hub: Serve
    ) -> None:
        hub = serve_hub(tiny=llama)
        hub.claimed_sizes["model.safetensors"] = 10**18
        with pytest.raises(NotEnoughSpace, match=r"need 1000000000\.0 GB, have \d+\.\d GB"):
            fetch("acme/tiny")
        assert hub.downloads("model.safetensors") == []

    def test_what_is_cached_needs_no_space(self, llama: Path, serve_hub: Serve) -> None:
        hub = serve_hub(tiny=llama)
        snapshot = fetch("acme/tiny")
        hub.claimed_sizes["model.safetensors"] = 10**18
        assert fetch("acme/tiny") == snapshot

    def test_a_disk_that_fills_up_meanwhile(
        self, llama: Path, serve_hub: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        serve_hub(tiny=llama)

        def fill_up(*_: object, **__: object) -> str:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("mooring.packaging.hub.snapshot_download", fill_up)
        with pytest.raises(NotEnoughSpace, match=r"the disk became full\. Free some space"):
            fetch("acme/tiny")

    def test_a_cache_that_cannot_be_written(
        self, llama: Path, serve_hub: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        serve_hub(tiny=llama)
        (tmp_path / "file").touch()
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
        with pytest.raises(SourceError, match="must be a folder that can be written") as caught:
            fetch("acme/tiny")
        assert not caught.value.retryable

    @pytest.mark.parametrize("shown", [True, False])
    def test_progress_is_shown_only_if_asked(
        self, llama: Path, serve_hub: Serve, capfd: pytest.CaptureFixture[str], shown: bool
    ) -> None:
        serve_hub(tiny=llama)
        spec = ModelSpec(source="acme/tiny")
        fetch_snapshot(spec, show_progress=shown)
        out, err = capfd.readouterr()
        assert ("Fetching" in err) is shown
        assert out == ""


class TestEnvironment:
    """The client's own environment variables work, in a process of its own."""

    def run(self, home: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        code = (
            "from mooring.packaging.snapshot import fetch_snapshot\n"
            "from mooring.spec.model_spec import ModelSpec\n"
            "found = fetch_snapshot(ModelSpec(source='acme/tiny'), show_progress=False)\n"
            "print(found.origin.commit)\n"
        )
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**kept, "HF_HOME": str(home), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_endpoint_token_and_offline(
        self, llama: Path, serve_hub: Serve, tmp_path: Path
    ) -> None:
        hub = serve_hub(tiny=llama)
        hub.private.add("acme/tiny")
        commit = hub.commit("acme/tiny")
        online = self.run(tmp_path / "home", HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN)
        assert (online.stdout, online.returncode) == (f"{commit}\n", 0), online.stderr
        hub.requests.clear()
        offline = self.run(tmp_path / "home", HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
        assert (offline.stdout, offline.returncode) == (f"{commit}\n", 0), offline.stderr
        assert hub.requests == []
