from typing import Any

import pytest

from mooring.errors import BrokenSource
from mooring.packaging.architecture import Architecture, read_architecture
from mooring.safetensors_header import StoredTensor

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}


def read(config: dict[str, Any], *tensors: StoredTensor, own_code: bool = False) -> Architecture:
    return read_architecture(config, tensors, own_code=own_code)


def test_a_common_config() -> None:
    assert read(LLAMA) == Architecture(
        name="LlamaForCausalLM",
        model_type="llama",
        layers=32,
        vocabulary_size=128256,
        context_length=131072,
        cache_values_per_token=2 * 32 * 8 * 128,
        linear_values=0,
    )


@pytest.mark.parametrize(
    ("config", "layers", "context", "cache_values"),
    [
        pytest.param(
            {"model_type": "mpt", "n_layers": 32, "n_heads": 32, "d_model": 4096,
             "max_seq_len": 2048, "attn_config": {"attn_type": "multihead_attention"}},
            32, 2048, 2 * 32 * 4096, id="MPT-7B",
        ),
        pytest.param(
            {"model_type": "mpt", "n_layers": 2, "n_heads": 4, "d_model": 64,
             "attn_config": {"kv_n_heads": 2}},
            2, None, 2 * 2 * 2 * 16, id="MPT with grouped heads",
        ),
        pytest.param(
            {"model_type": "mpt", "n_layers": 2, "n_heads": 4, "d_model": 64,
             "attn_config": {"attn_type": "multiquery_attention"}},
            2, None, 2 * 2 * 16, id="MPT with one head",
        ),
        pytest.param(
            {"model_type": "falcon", "num_hidden_layers": 32, "num_attention_heads": 71,
             "hidden_size": 4544, "multi_query": True},
            32, None, 2 * 32 * 64, id="Falcon-7B",
        ),
        pytest.param(
            {"model_type": "falcon", "num_hidden_layers": 60, "num_attention_heads": 128,
             "num_kv_heads": 8, "hidden_size": 8192, "new_decoder_architecture": True},
            60, None, 2 * 60 * 8192, id="Falcon-40B keeps repeated heads",
        ),
        pytest.param(
            {"model_type": "gpt2", "n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024,
             "n_ctx": 1024},
            12, 1024, 2 * 12 * 768, id="GPT-2",
        ),
        pytest.param(
            {"model_type": "gpt_bigcode", "n_layer": 24, "n_head": 16, "n_embd": 2048,
             "n_positions": 8192, "multi_query": True},
            24, 8192, 2 * 24 * 128, id="StarCoder",
        ),
        pytest.param(
            {"model_type": "chatglm", "num_layers": 28, "num_attention_heads": 32,
             "hidden_size": 4096, "kv_channels": 128, "multi_query_attention": True,
             "multi_query_group_num": 2, "seq_length": 32768},
            28, 32768, 2 * 28 * 2 * 128, id="ChatGLM3",
        ),
        pytest.param(
            {"model_type": "gemma3", "text_config": {
                "num_hidden_layers": 34, "num_attention_heads": 8, "num_key_value_heads": 4,
                "hidden_size": 2560, "head_dim": 256, "max_position_embeddings": 131072}},
            34, 131072, 2 * 34 * 4 * 256, id="Gemma 3, nested, head_dim of its own",
        ),
        pytest.param(
            {"model_type": "qwen3_next", "num_hidden_layers": 4, "num_attention_heads": 4,
             "num_key_value_heads": 2, "hidden_size": 64,
             "layer_types": ["linear_attention", "linear_attention", "linear_attention",
                             "full_attention"]},
            4, None, 2 * 1 * 2 * 16, id="linear layers keep no keys",
        ),
        pytest.param(
            {"model_type": "openelm", "num_hidden_layers": 2, "num_attention_heads": [4, 8],
             "num_kv_heads": [1, 2], "head_dim": 64},
            2, None, 2 * 2 * 2 * 64, id="one number per layer",
        ),
        pytest.param({"model_type": "mamba", "num_hidden_layers": 4}, 4, None, None, id="Mamba"),
        pytest.param(
            {"model_type": "rwkv6", "num_hidden_layers": 4, "num_attention_heads": 4},
            4, None, None, id="RWKV",
        ),
    ],
)  # fmt: skip
def test_families(
    config: dict[str, Any], layers: int, context: int | None, cache_values: int | None
) -> None:
    found = read({"architectures": ["XForCausalLM"], **config})
    assert (found.layers, found.context_length) == (layers, context)
    assert found.cache_values_per_token == cache_values


def test_latent_attention_keeps_its_latents_in_transformers_and_heads_elsewhere() -> None:
    config = LLAMA | {
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "v_head_dim": 128,
    }
    assert read(config).cache_values_per_token == 32 * (512 + 64)
    assert read(config, own_code=True).cache_values_per_token == 32 * 32 * (128 + 64 + 128)


def test_tensors_fill_what_the_config_leaves_out() -> None:
    found = read(
        {"architectures": ["OwnForCausalLM"]},
        StoredTensor("model.embed.weight", "F32", (1000, 48), 0, 0),
        StoredTensor("model.blocks.11.mix", "F32", (48, 48), 0, 0),
        StoredTensor("model.blocks.2.mix", "F32", (48, 48), 0, 0),
    )
    assert (found.layers, found.vocabulary_size) == (12, 1000)
    assert found.cache_values_per_token == 2 * 12 * 48


@pytest.mark.parametrize("value", [0, -1, 2**60, 1.5, "2048", True, None, [], {}])
def test_nonsense_sizes_count_as_missing(value: Any) -> None:
    assert read(LLAMA | {"max_position_embeddings": value}).context_length is None


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
        {"architectures": ["BartForCausalLM"], "is_encoder_decoder": True},
        {"architectures": ["BertForMaskedLM"]},
        {"architectures": ["BertModel"]},
        {"architectures": ["LlamaForSequenceClassification"]},
    ],
)
def test_what_does_not_generate_from_left_to_right_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BrokenSource, match="must be a causal language model") as caught:
        read(LLAMA | changes)
    assert f"Given: {changes['architectures'][0]}." in caught.value.message


def test_own_code_says_itself_what_it_is() -> None:
    config = LLAMA | {
        "architectures": ["ChatGLMModel"],
        "auto_map": {"AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration"},
    }
    assert read(config, own_code=True).name == "ChatGLMModel"
    with pytest.raises(BrokenSource, match="Given: ChatGLMModel"):
        read(config, own_code=False)


@pytest.mark.parametrize("architectures", [None, [], [3], "LlamaForCausalLM"])
def test_without_architectures_the_type_names_it(architectures: Any) -> None:
    assert read(LLAMA | {"architectures": architectures}).name == "llama"


def test_a_config_that_names_nothing_is_broken() -> None:
    with pytest.raises(BrokenSource, match="`architectures` or `model_type`"):
        read({"num_hidden_layers": 2})
