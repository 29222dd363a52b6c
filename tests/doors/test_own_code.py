"""A model with its own code: refused unless trusted, then packed whole and loaded offline."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mooring.errors import CorruptArtifact, UnsafeSource
from mooring.loading.bundle import open_bundle
from tests.conftest import Store
from tests.models import tiny_remote_code

ASK = """
import json, sys, mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(model.predict(["hello", "a longer question"], params=json.loads(sys.argv[2]))))
"""
PARAMETERS = {"temperature": 0, "max_tokens": 12, "ignore_eos": True}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_remote_code(tmp_path / "harbor")


def test_own_code_is_refused_unless_trusted(store: Store, source: Path) -> None:
    with pytest.raises(UnsafeSource) as caught:
        store.package(str(source), "harbor-refused")
    assert "modeling_harbor.py" in caught.value.message
    assert "--trust-remote-code" in caught.value.message


def test_own_code_travels_and_loads_offline_with_an_empty_cache(
    store: Store, source: Path, tmp_path: Path
) -> None:
    packaged = store.package(str(source), "harbor", trust_remote_code=True)
    bundle = open_bundle(packaged.uri, tracking_uri=store.tracking_uri)
    assert (bundle.snapshot / "modeling_harbor.py").is_file()
    assert any(line.startswith("einops==") for line in bundle.manifest.requirements)
    expected = _generated_by_transformers(source, tmp_path)
    answer = subprocess.run(
        [sys.executable, "-c", ASK, packaged.uri, json.dumps(PARAMETERS)],
        capture_output=True,
        text=True,
        timeout=120,
        env={
            "HF_HOME": str(tmp_path / "empty"),
            "HF_HUB_OFFLINE": "1",
            "MLFLOW_TRACKING_URI": store.tracking_uri,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "OMP_NUM_THREADS": "1",
        },
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout.splitlines()[-1])["candidates"] == expected


def test_changed_code_is_not_run(store: Store, source: Path) -> None:
    packaged = store.package(str(source), "harbor-changed", trust_remote_code=True)
    bundle = open_bundle(packaged.uri, tracking_uri=store.tracking_uri)
    file = bundle.snapshot / "modeling_harbor.py"
    text = file.read_text()
    file.unlink()
    file.write_text(text.replace("hidden", "hidder"))
    with pytest.raises(CorruptArtifact, match=r"modeling_harbor\.py: sha256 differs"):
        open_bundle(packaged.uri, tracking_uri=store.tracking_uri)


def _generated_by_transformers(source: Path, cache: Path) -> list[str]:
    """Return what plain transformers generates from the folder, in a process of its own."""
    script = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
texts = []
for prompt in ("hello", "a longer question"):
    ids = torch.tensor([tokenizer.encode(prompt)])
    for _ in range(12):
        ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=-1)
    new = ids[0, len(tokenizer.encode(prompt)):]
    texts.append(tokenizer.decode(new, skip_special_tokens=True))
print(json.dumps(texts))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, str(source)],
        capture_output=True,
        text=True,
        timeout=120,
        env={"HF_HOME": str(cache / "other"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    texts: list[str] = json.loads(ran.stdout.splitlines()[-1])
    return texts
