"""Snapshots load from safetensors alone, offline, and never run code that is not trusted."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from mooring.engines.transformers import placement
from mooring.engines.transformers.loader import LoadedModel, load_model
from mooring.errors import BrokenSource, MissingDependency, NotEnoughMemory, UnsafeSource
from mooring.settings import Dtype, EngineSettings
from tests import models
from tests.engines.conftest import SnapshotOf


def load(snapshot: Path, *, dtype: Dtype | None = None, trust: bool = False) -> LoadedModel:
    settings = EngineSettings(device="cpu", dtype=dtype)
    return load_model(snapshot, settings, dtype="auto", trust_remote_code=trust)


def edit_config(snapshot: Path, **values: Any) -> Path:
    path = snapshot / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return snapshot


def test_loads_in_eval_mode(snapshot_of: SnapshotOf) -> None:
    loaded = load(snapshot_of("llama"))
    assert isinstance(loaded.model, transformers.LlamaForCausalLM)
    assert not loaded.model.training
    assert (loaded.device, loaded.precision, loaded.vocabulary_size) == ("cpu", "float32", 259)


@pytest.mark.parametrize(("native", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_computes_a_16_bit_checkpoint_in_what_the_cpu_can(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, native: bool, precision: str
) -> None:
    snapshot = models.tiny_llama(tmp_path / "llama")
    weights = {k: v.half() for k, v in load_file(snapshot / "model.safetensors").items()}
    save_file(weights, snapshot / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr(placement, "has_native_bfloat16", lambda: native)
    loaded = load(snapshot)
    assert loaded.precision == precision
    assert {str(p.dtype) for p in loaded.model.parameters()} == {f"torch.{precision}"}


def test_the_setting_overrides_the_artifacts_dtype(snapshot_of: SnapshotOf) -> None:
    settings = EngineSettings(device="cpu", dtype="bfloat16")
    loaded = load_model(snapshot_of("llama"), settings, dtype="float32", trust_remote_code=False)
    assert loaded.precision == "bfloat16"
    settings = EngineSettings(device="cpu")
    loaded = load_model(snapshot_of("llama"), settings, dtype="bfloat16", trust_remote_code=False)
    assert loaded.precision == "bfloat16"


def test_prints_nothing_and_leaves_progress_bars_as_they_were(
    snapshot_of: SnapshotOf, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = transformers.utils.logging.is_progress_bar_enabled()
    load(snapshot_of("llama"))
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "Loading weights" not in printed.err
    assert transformers.utils.logging.is_progress_bar_enabled() == shown


def test_refuses_untrusted_code_without_asking(
    monkeypatch: pytest.MonkeyPatch, snapshot_of: SnapshotOf
) -> None:
    def refuse_to_ask(*_: object) -> str:
        raise AssertionError("asked on stdin")

    monkeypatch.setattr("builtins.input", refuse_to_ask)
    with pytest.raises(UnsafeSource, match="Given: trust_remote_code=False"):
        load(snapshot_of("remote_code"))


def test_loads_trusted_code(snapshot_of: SnapshotOf) -> None:
    loaded = load(snapshot_of("remote_code"), trust=True)
    assert type(loaded.model).__name__ == "HarborForCausalLM"
    assert (loaded.precision, loaded.vocabulary_size) == ("float32", 259)


def test_uses_its_own_class_rather_than_untrusted_code(tmp_path: Path) -> None:
    snapshot = models.tiny_llama(tmp_path / "llama")
    (snapshot / "modeling_evil.py").write_text("raise SystemExit('evil code ran')")
    edit_config(snapshot, auto_map={"AutoModelForCausalLM": "modeling_evil.LlamaForCausalLM"})
    assert type(load(snapshot).model) is transformers.LlamaForCausalLM


def test_refuses_code_of_another_repository(tmp_path: Path) -> None:
    snapshot = models.tiny_remote_code(tmp_path / "remote")
    edit_config(snapshot, auto_map={"AutoModelForCausalLM": "someone/else--modeling.Model"})
    with pytest.raises(UnsafeSource, match=r"Given: someone/else--modeling\.Model"):
        load(snapshot, trust=True)


def test_names_the_package_that_the_models_code_needs(tmp_path: Path) -> None:
    snapshot = models.tiny_remote_code(tmp_path / "remote")
    with (snapshot / "modeling_harbor.py").open("a") as code:
        code.write("\nimport a_package_of_nobody\n")
    with pytest.raises(MissingDependency, match="a_package_of_nobody"):
        load(snapshot, trust=True)


@pytest.mark.parametrize("package", ["transformers", "torch"])
def test_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=r"pip install 'mooring\[transformers\]'"):
        load(tmp_path)


def test_refuses_weights_that_do_not_fill_the_model(tmp_path: Path) -> None:
    snapshot = models.tiny_llama(tmp_path / "llama")
    weights = load_file(snapshot / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, snapshot / "model.safetensors", {"format": "pt"})
    with pytest.raises(BrokenSource, match=r"first model\.layers\.1\.mlp\.up_proj\.weight"):
        load(snapshot)


def test_refuses_weights_of_another_shape(tmp_path: Path) -> None:
    snapshot = edit_config(models.tiny_llama(tmp_path / "llama"), intermediate_size=48)
    with pytest.raises(BrokenSource):
        load(snapshot)


def test_refuses_truncated_weights(tmp_path: Path) -> None:
    weights = models.tiny_llama(tmp_path / "llama") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BrokenSource):
        load(tmp_path / "llama")


def test_refuses_pickled_weights(tmp_path: Path) -> None:
    snapshot = models.tiny_llama(tmp_path / "llama")
    torch.save(load_file(snapshot / "model.safetensors"), snapshot / "pytorch_model.bin")
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(BrokenSource, match="must be in safetensors"):
        load(snapshot)


def test_refuses_an_architecture_that_nobody_knows(tmp_path: Path) -> None:
    snapshot = edit_config(models.tiny_llama(tmp_path / "llama"), model_type="unheard_of")
    with pytest.raises(BrokenSource, match="unheard_of"):
        load(snapshot)


@pytest.mark.parametrize("content", [None, "", "[]", "{"])
def test_refuses_a_damaged_config(tmp_path: Path, content: str | None) -> None:
    snapshot = models.tiny_llama(tmp_path / "llama")
    (snapshot / "config.json").unlink()
    if content is not None:
        (snapshot / "config.json").write_text(content)
    with pytest.raises(BrokenSource, match=r"config\.json"):
        load(snapshot)


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_says_that_memory_is_short(
    monkeypatch: pytest.MonkeyPatch, snapshot_of: SnapshotOf, error: type[Exception]
) -> None:
    def fill_memory(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fill_memory)
    with pytest.raises(NotEnoughMemory):
        load(snapshot_of("llama"))


def test_loads_remote_code_offline_without_any_cache_and_keeps_snapshots_apart(
    tmp_path: Path,
) -> None:
    """Two snapshots with different code in folders of one name, in a fresh process."""
    first = models.tiny_remote_code(tmp_path / "one" / "snapshot")
    second = models.tiny_remote_code(tmp_path / "two" / "snapshot")
    code = (second / "modeling_harbor.py").read_text()
    (second / "modeling_harbor.py").write_text(code.replace("0.2 * hidden", "-hidden"))
    (tmp_path / "file").write_text("not a folder")
    script = textwrap.dedent("""
        import socket, sys
        from pathlib import Path

        def no_network(*arguments):
            raise AssertionError("opened a connection")

        socket.socket.connect = no_network
        from mooring.engines.transformers.loader import load_model
        from mooring.settings import EngineSettings

        sums = []
        for snapshot in sys.argv[1:]:
            loaded = load_model(
                Path(snapshot), EngineSettings(device="cpu"), dtype="auto", trust_remote_code=True
            )
            ids = loaded.model.tokens.weight.new_tensor([[5, 6, 7]]).long()
            sums.append(loaded.model(input_ids=ids).logits.abs().sum().item())
        sys.stderr.write("sums " + " ".join(map(str, sums)))
    """)
    environment = {
        "PATH": os.environ["PATH"],
        "HF_HOME": str(tmp_path / "file" / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    finished = subprocess.run(
        [sys.executable, "-c", script, first, second],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == ""
    sums = [float(number) for number in finished.stderr.rpartition("sums ")[2].split()]
    ids = torch.tensor([[5, 6, 7]])
    expected = [
        load(snapshot, trust=True).model(input_ids=ids).logits.abs().sum().item()
        for snapshot in (first, second)
    ]
    assert sums == pytest.approx(expected)
    assert sums[0] != pytest.approx(sums[1])


def test_keys_that_grow_leave_no_kernels_behind(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        import psutil, torch
        torch.set_num_threads(1)
        from mooring.engines.transformers.loader import load_model
        from mooring.settings import EngineSettings
        load_model(Path(sys.argv[1]), EngineSettings(), dtype="bfloat16", trust_remote_code=False)
        query, keys = (torch.ones(64, n, 32, dtype=torch.bfloat16) for n in (1, 1000))
        before = psutil.Process().memory_info().rss
        for length in range(4, 1000):
            torch.bmm(torch.bmm(query, keys[:, :length].transpose(1, 2)), keys[:, :length])
        print(psutil.Process().memory_info().rss - before)
    """
    snapshot = models.tiny_llama(tmp_path / "llama")
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), snapshot],
        env={
            name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(finished.stdout) < 1e9  # more than 2 GB where all of them are kept
