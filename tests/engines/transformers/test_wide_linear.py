"""Many rows are computed in float32 where that is faster, with results as close as rounding."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
import torch

from mooring import machine
from mooring.engines.transformers import wide_linear
from mooring.engines.transformers.loader import LoadedModel, load_model
from mooring.engines.transformers.packed_linear import PackedLinear, pack_linears, pack_weight
from mooring.engines.transformers.padding import first_logits
from mooring.engines.transformers.wide_linear import LEAST_ROWS, WideLinear, widen_linears
from mooring.machine import read_machine
from mooring.packaging.inspection import inspect_source
from mooring.packaging.plan import make_plan
from mooring.settings import Dtype, EngineSettings
from mooring.spec.model_spec import ModelSpec
from tests import models
from tests.engines.conftest import SnapshotOf
from tests.engines.transformers.test_packed_linear import PACKED

LONG = [[(7 * place) % 200 + 5 for place in range(LEAST_ROWS + 5)]]


def timed(monkeypatch: pytest.MonkeyPatch, narrow: float, wide: float) -> None:
    """Let a layer take so long with its own weight, and with the wide one."""
    seconds: Iterator[float] = cycle([narrow, wide])
    monkeypatch.setattr(wide_linear, "_seconds", lambda run: next(seconds))


def load_packed(snapshot: Path, *, dtype: Dtype = "bfloat16", trust: bool = False) -> LoadedModel:
    settings = EngineSettings(device="cpu", dtype=dtype)
    loaded = load_model(snapshot, settings, dtype="auto", trust_remote_code=trust)
    assert pack_linears(loaded)
    return loaded


def kinds(loaded: LoadedModel) -> set[type]:
    return {type(m) for m in loaded.model.modules() if isinstance(m, PackedLinear)}


@pytest.mark.parametrize("family", PACKED)
def test_logits_stay_as_close_as_rounding(
    monkeypatch: pytest.MonkeyPatch, snapshot_of: SnapshotOf, family: str
) -> None:
    timed(monkeypatch, narrow=2.0, wide=1.0)
    loaded = load_packed(snapshot_of(family))
    before = first_logits(loaded, LONG)
    assert widen_linears(loaded)
    assert kinds(loaded) == {WideLinear}
    torch.testing.assert_close(first_logits(loaded, LONG), before, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("family", [*PACKED, "qwen3", "mixtral", "gpt_neox"])
def test_the_plan_counts_the_second_weights(
    monkeypatch: pytest.MonkeyPatch, snapshot_of: SnapshotOf, tmp_path: Path, family: str
) -> None:
    timed(monkeypatch, narrow=2.0, wide=1.0)
    monkeypatch.setattr(machine, "NOTES_FOLDER", tmp_path)
    monkeypatch.setattr(wide_linear, "_TELLING_VALUES", 1)
    facts = inspect_source(ModelSpec(source=str(snapshot_of(family))))
    before = make_plan(facts, replace(read_machine(), gpus=()), dtype="bfloat16").needed_bytes
    loaded = load_packed(snapshot_of(family))
    assert widen_linears(loaded)
    after = make_plan(facts, replace(read_machine(), gpus=()), dtype="bfloat16").needed_bytes
    layers = [m for m in loaded.model.modules() if isinstance(m, WideLinear)]
    made = 4 * sum(layer.wide_weight.numel() for layer in layers)
    assert after - before == pytest.approx(made, rel=0.02)


def test_a_plan_forgets_what_is_no_longer_so(
    monkeypatch: pytest.MonkeyPatch, snapshot_of: SnapshotOf, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "NOTES_FOLDER", tmp_path)
    for least, wide, noted in ((1, 1.0, True), (10**9, 2.0, True), (1, 2.0, False)):
        monkeypatch.setattr(wide_linear, "_TELLING_VALUES", least)
        timed(monkeypatch, narrow=2.0, wide=wide)
        widen_linears(load_packed(snapshot_of("llama")))
        assert read_machine().faster_in_float32 is noted


def test_only_many_rows_are_computed_in_float32(
    monkeypatch: pytest.MonkeyPatch, snapshot_of: SnapshotOf
) -> None:
    timed(monkeypatch, narrow=2.0, wide=1.0)
    loaded = load_packed(snapshot_of("llama"))
    layer = loaded.model.model.layers[0].mlp.down_proj
    weight = layer.weight.data.to_dense()
    assert widen_linears(loaded)
    nothing = pack_weight(torch.zeros_like(weight))
    layer.weight = torch.nn.Parameter(nothing, requires_grad=False)
    rows = torch.randn(LEAST_ROWS, layer.in_features).bfloat16()
    exact = (rows.float() @ weight.float().T).bfloat16()
    torch.testing.assert_close(layer(rows), exact)
    torch.testing.assert_close(layer(rows[None]), exact[None])


@pytest.mark.parametrize(("narrow", "wide"), [(1.0, 1.0), (1.1, 1.0), (1.0, 2.0)])
def test_not_where_it_is_hardly_faster(
    monkeypatch: pytest.MonkeyPatch, snapshot_of: SnapshotOf, narrow: float, wide: float
) -> None:
    timed(monkeypatch, narrow, wide)
    loaded = load_packed(snapshot_of("llama"))
    before = first_logits(loaded, LONG)
    assert not widen_linears(loaded)
    assert kinds(loaded) == {PackedLinear}
    assert torch.equal(first_logits(loaded, LONG), before)


def test_not_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch, snapshot_of: SnapshotOf
) -> None:
    timed(monkeypatch, narrow=2.0, wide=1.0)
    loaded = load_packed(snapshot_of("llama"))
    wanted = 4 * sum(m.weight.numel() for m in loaded.model.modules() if type(m) is PackedLinear)
    monkeypatch.setattr(wide_linear, "read_memory", lambda: (10**12, 4 * wanted - 1))
    assert not widen_linears(loaded)
    monkeypatch.setattr(wide_linear, "read_memory", lambda: (10**12, 4 * wanted))
    assert widen_linears(loaded)


def test_not_in_full_precision(monkeypatch: pytest.MonkeyPatch, snapshot_of: SnapshotOf) -> None:
    timed(monkeypatch, narrow=2.0, wide=1.0)
    loaded = load_packed(snapshot_of("llama"), dtype="float32")
    assert not widen_linears(loaded)
    assert kinds(loaded) == {PackedLinear}


def test_taken_back_where_it_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    timed(monkeypatch, narrow=2.0, wide=1.0)
    snapshot = models.tiny_remote_code(tmp_path / "wrong")
    code = (snapshot / "modeling_harbor.py").read_text()
    changed = "self.head(hidden) * (1 + hasattr(self.head, 'wide_weight'))"
    (snapshot / "modeling_harbor.py").write_text(code.replace("self.head(hidden)", changed))
    loaded = load_packed(snapshot, trust=True)
    before = first_logits(loaded, LONG)
    assert not widen_linears(loaded)
    assert kinds(loaded) == {PackedLinear}
    assert torch.equal(first_logits(loaded, LONG), before)
