"""Large models for benchmarks are written in pieces, and are whole."""

import json
from pathlib import Path

import torch
from benchmarks import models
from transformers import AutoConfig, AutoModelForCausalLM


def test_a_model_in_pieces_is_whole_and_the_same_again(tmp_path: Path) -> None:
    config = models.mpt_7b()
    config.d_model, config.n_layers, config.n_heads, config.vocab_size = 128, 2, 4, 300
    for name in ("one", "two"):
        models.write_piecewise(config, tmp_path / name, shard_bytes=50_000)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert one == two
    index = json.loads(one["model.safetensors.index.json"])
    assert len(set(index["weight_map"].values())) > 2
    model, loading = AutoModelForCausalLM.from_pretrained(
        tmp_path / "one", output_loading_info=True
    )
    assert not any(loading.values())
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight is model.transformer.wte.weight
    steps = model.transformer.wte.weight * 2**8
    assert set(steps.flatten().tolist()) == set(range(-8, 9))
    assert ((steps.view(-1, 128).abs() == 8).sum(-1) == 1).all()
    assert abs(steps.float().mean()) < 0.1
    assert set(model.transformer.norm_f.weight.tolist()) == {1.0}
    assert AutoConfig.from_pretrained(tmp_path / "one").eos_token_id == 2


def test_its_dimensions_are_those_of_the_model_it_is_named_for() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(models.mpt_7b())
    assert sum(values.numel() for values in model.parameters()) == 6_649_286_656
