"""Packed linear layers give what plain ones give, and models that cannot have them keep theirs."""

import gc
from pathlib import Path

import pytest
import torch
from torch import nn

from mooring.engines.transformers.loader import LoadedModel, load_model
from mooring.engines.transformers.packed_linear import PackedLinear, pack_linears
from mooring.engines.transformers.padding import first_logits
from mooring.settings import Dtype, EngineSettings
from tests import models
from tests.engines.conftest import SnapshotOf

PROMPTS = [[5, 6, 7, 8, 9], [10, 11, 12]]
# Mamba is not one of them: it reads the weights of its layers itself.
PACKED = ("llama", "qwen2", "mistral", "gemma3", "phi", "mpt", "bloom", "opt")


def load(snapshot: Path, *, dtype: Dtype = "bfloat16", trust: bool = False) -> LoadedModel:
    settings = EngineSettings(device="cpu", dtype=dtype)
    return load_model(snapshot, settings, dtype="auto", trust_remote_code=trust)


def packed(loaded: LoadedModel) -> list[str]:
    return [name for name, m in loaded.model.named_modules() if isinstance(m, PackedLinear)]


@pytest.mark.parametrize("family", PACKED)
def test_logits_stay_the_same(snapshot_of: SnapshotOf, family: str) -> None:
    loaded = load(snapshot_of(family))
    alone, together = first_logits(loaded, PROMPTS[:1]), first_logits(loaded, PROMPTS)
    assert pack_linears(loaded)
    assert len(packed(loaded)) >= 4
    for before, prompts in ((alone, PROMPTS[:1]), (together, PROMPTS)):
        torch.testing.assert_close(first_logits(loaded, prompts), before, rtol=0.02, atol=0.02)


def test_weights_are_in_memory_once(snapshot_of: SnapshotOf) -> None:
    loaded = load(snapshot_of("llama"))
    before = sum(weight.nbytes for weight in loaded.model.parameters())
    assert pack_linears(loaded)
    assert sum(weight.nbytes for weight in loaded.model.parameters()) == before
    assert all(
        module.weight.is_mkldnn
        for module in loaded.model.modules()
        if isinstance(module, PackedLinear)
    )


def test_a_weight_shared_with_the_embedding_stays(tmp_path: Path) -> None:
    loaded = load(models.tiny_llama(tmp_path / "tied", tie_word_embeddings=True))
    assert pack_linears(loaded)
    assert type(loaded.model.lm_head) is nn.Linear
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight


def test_full_precision_gives_the_same_too(snapshot_of: SnapshotOf) -> None:
    loaded = load(snapshot_of("llama"), dtype="float32")
    before = first_logits(loaded, PROMPTS)
    assert pack_linears(loaded)
    assert len(packed(loaded)) >= 4
    torch.testing.assert_close(first_logits(loaded, PROMPTS), before)


def test_nothing_keeps_the_file_mapped(tmp_path: Path) -> None:
    loaded = load(models.tiny_llama(tmp_path / "mapped"))
    mapped = str(tmp_path / "mapped")
    assert pack_linears(loaded)
    gc.collect()
    assert mapped not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    "instead",
    [
        "torch.nn.functional.linear(hidden, self.head.weight)",
        "self.head(hidden) + float(type(self.head) is not nn.Linear)",
    ],
    ids=["the model reads the weight itself", "the logits change"],
)
def test_taken_back_where_it_is_wrong(tmp_path: Path, instead: str) -> None:
    snapshot = models.tiny_remote_code(tmp_path / "wrong")
    code = (snapshot / "modeling_harbor.py").read_text()
    assert "self.head(hidden)" in code
    code = code.replace("self.head(hidden)", instead)
    (snapshot / "modeling_harbor.py").write_text(code)
    loaded, fresh = load(snapshot, trust=True), load(snapshot, trust=True)
    assert not pack_linears(loaded)
    assert packed(loaded) == []
    for weight, original in zip(loaded.model.parameters(), fresh.model.parameters(), strict=True):
        assert torch.equal(weight, original)
    assert torch.equal(first_logits(loaded, PROMPTS), first_logits(fresh, PROMPTS))
