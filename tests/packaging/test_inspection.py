import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from mooring.errors import BrokenSource, HubUnreachable, UnsafeSource
from mooring.packaging.inspection import inspect_snapshot, inspect_source
from mooring.packaging.snapshot import fetch_snapshot
from mooring.spec.facts import ModelFacts
from mooring.spec.model_spec import ModelSpec
from tests import models
from tests.packaging.conftest import Serve, edit_json

NATIVE = ("llama", "mistral", "gpt2", "gpt_neox", "mpt", "bloom", "opt", "mamba")


def inspect(folder: Path, *, trust: bool = False) -> ModelFacts:
    spec = ModelSpec(source=str(folder), trust_remote_code=trust)
    return inspect_snapshot(fetch_snapshot(spec, show_progress=False), trust_remote_code=trust)


def cached_values(model: Any) -> int:
    """Run one token and count the numbers in the cache."""
    with torch.no_grad():
        cache = model(torch.tensor([[5]]), use_cache=True).past_key_values
    return sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)


@pytest.mark.parametrize("name", NATIVE)
def test_facts_agree_with_the_loaded_model(tmp_path: Path, name: str) -> None:
    folder: Path = getattr(models, f"tiny_{name}")(tmp_path / name)
    facts = inspect(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert facts.architecture == type(model).__name__
    assert facts.model_type == model.config.model_type
    assert facts.parameters == parameters
    assert facts.weight_bytes == 4 * parameters
    assert facts.stored_dtypes == {"F32": parameters}
    assert facts.layers == 2
    assert facts.vocabulary_size == models.VOCABULARY_SIZE
    assert facts.context_length == models.CONTEXT_LENGTH
    assert facts.cache_values_per_token == (None if name == "mamba" else cached_values(model))
    assert facts.end_token_ids == (models.END,)
    assert not facts.own_code
    assert not facts.half_precision


def test_facts_of_a_model_with_its_own_code(remote_code: Path) -> None:
    facts = inspect(remote_code, trust=True)
    assert facts.own_code
    assert (facts.architecture, facts.model_type) == ("HarborForCausalLM", "harbor")
    assert facts.layers == 2
    assert facts.cache_values_per_token == 2 * 2 * 32
    assert facts.context_length == models.CONTEXT_LENGTH


def test_half_precision_is_seen(llama: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16)
    model.save_pretrained(llama)
    facts = inspect(llama)
    assert facts.half_precision
    assert facts.weight_bytes == 2 * facts.parameters


class TestEndTokens:
    def test_generation_config_comes_first(self, llama: Path) -> None:
        edit_json(llama / "generation_config.json", eos_token_id=[2, 7])
        assert inspect(llama).end_token_ids == (2, 7)

    def test_then_the_config(self, llama: Path) -> None:
        (llama / "generation_config.json").unlink()
        edit_json(llama / "config.json", eos_token_id=9)
        assert inspect(llama).end_token_ids == (9,)

    def test_then_the_text_part_of_the_config(self, llama: Path) -> None:
        (llama / "generation_config.json").unlink()
        edit_json(llama / "config.json", eos_token_id=None, text_config={"eos_token_id": [8]})
        assert inspect(llama).end_token_ids == (8,)

    @pytest.mark.parametrize(
        ("token", "ids"),
        [("</s>", (2,)), ({"content": "<s>"}, (1,)), ("unknown", ()), (None, ())],
    )
    def test_then_the_tokenizer(self, llama: Path, token: Any, ids: tuple[int, ...]) -> None:
        (llama / "generation_config.json").unlink()
        edit_json(llama / "config.json", eos_token_id=None)
        edit_json(llama / "tokenizer_config.json", eos_token=token)
        assert inspect(llama).end_token_ids == ids


class TestBroken:
    def test_no_config(self, llama: Path) -> None:
        (llama / "config.json").unlink()
        with pytest.raises(BrokenSource, match=r"A model must have config\.json"):
            inspect(llama)

    @pytest.mark.parametrize(
        ("content", "given"),
        [
            (b"", "expecting value (line 1)"),
            (b'{"a": ', "expecting value (line 1)"),
            (b"\xff\xff", "text that is not UTF-8"),
            (b"[" * 100_000, "values nested too deeply"),
            (b'{"a": ' + b"9" * 5000 + b"}", "a number with too many digits"),
        ],
    )
    def test_config_that_is_not_json(self, llama: Path, content: bytes, given: str) -> None:
        (llama / "config.json").write_bytes(content)
        with pytest.raises(BrokenSource, match=r"config\.json must be readable JSON") as caught:
            inspect(llama)
        assert f"Given: {given}." in caught.value.message

    def test_config_that_is_no_object(self, llama: Path) -> None:
        (llama / "config.json").write_text("[]")
        with pytest.raises(BrokenSource, match=r"must hold a JSON object\. Given: list"):
            inspect(llama)

    def test_config_of_unlikely_size(self, llama: Path) -> None:
        with (llama / "config.json").open("r+b") as file:
            file.truncate(65 * 2**20)
        with pytest.raises(BrokenSource, match="must have at most 67108864 bytes"):
            inspect(llama)

    def test_no_tokenizer(self, llama: Path) -> None:
        (llama / "tokenizer.json").unlink()
        with pytest.raises(BrokenSource, match="must bring its tokenizer"):
            inspect(llama)

    @pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 10, b'{"model": {"type": "BPE"'])
    def test_tokenizer_that_cannot_be_loaded(self, llama: Path, content: bytes) -> None:
        (llama / "tokenizer.json").write_bytes(content)
        with pytest.raises(BrokenSource, match=f"Given: {len(content)} bytes that it cannot load"):
            inspect(llama)

    def test_weights_with_a_flipped_offset(self, llama: Path) -> None:
        weights = llama / "model.safetensors"
        content = weights.read_bytes()
        weights.write_bytes(content.replace(b'"data_offsets":[0,', b'"data_offsets":[4,', 1))
        with pytest.raises(BrokenSource, match=r"model\.safetensors is damaged"):
            inspect(llama)

    def test_weights_cut_short(self, llama: Path) -> None:
        weights = llama / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        with pytest.raises(BrokenSource, match=r"model\.safetensors is damaged: its tensors end"):
            inspect(llama)


def test_the_first_missing_trust_stops_everything(remote_code: Path) -> None:
    with pytest.raises(UnsafeSource, match=r"modeling_harbor\.py"):
        inspect(remote_code)


class TestSource:
    def test_a_folder(self, llama: Path) -> None:
        assert inspect_source(ModelSpec(source=str(llama))) == inspect(llama)

    def test_a_hub_model_without_its_weights(self, llama: Path, serve_hub: Serve) -> None:
        hub = serve_hub(tiny=llama)
        assert inspect_source(ModelSpec(source="acme/tiny")) == inspect(llama)
        wanted = {request.range for request in hub.downloads("model.safetensors")}
        assert wanted == {"bytes=0-100000"}

    def test_a_hub_model_in_shards(self, llama: Path, serve_hub: Serve) -> None:
        whole = inspect(llama)
        model = transformers.AutoModelForCausalLM.from_pretrained(llama)
        (llama / "model.safetensors").unlink()
        model.save_pretrained(llama, max_shard_size="40KB")
        index = json.loads((llama / "model.safetensors.index.json").read_text())
        assert len(set(index["weight_map"].values())) > 2
        serve_hub(tiny=llama)
        assert inspect_source(ModelSpec(source="acme/tiny")) == whole == inspect(llama)

    def test_a_hub_model_with_broken_weights(self, llama: Path, serve_hub: Serve) -> None:
        (llama / "model.safetensors").write_bytes(b"\xff" * 100)
        serve_hub(tiny=llama)
        with pytest.raises(BrokenSource, match=r"model\.safetensors of 'acme/tiny' is damaged"):
            inspect_source(ModelSpec(source="acme/tiny"))

    def test_a_hub_model_with_overlapping_weights(self, llama: Path, serve_hub: Serve) -> None:
        header = {
            "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
            "b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]},
        }
        text = json.dumps(header).encode()
        content = len(text).to_bytes(8, "little") + text + bytes(24)
        (llama / "model.safetensors").write_bytes(content)
        serve_hub(tiny=llama)
        with pytest.raises(BrokenSource, match="b starts at byte 8, not at 16"):
            inspect_source(ModelSpec(source="acme/tiny"))

    def test_a_cached_model_without_a_hub(self, llama: Path, serve_hub: Serve) -> None:
        hub = serve_hub(tiny=llama)
        spec = ModelSpec(source="acme/tiny")
        fetch_snapshot(spec, show_progress=False)
        hub.status = 500
        assert inspect_source(spec) == inspect(llama)

    def test_no_hub_and_no_cache(self, serve_hub: Serve) -> None:
        serve_hub().status = 500
        with pytest.raises(HubUnreachable):
            inspect_source(ModelSpec(source="acme/tiny"))
