"""Tiny random models on disk: snapshots like those on a hub, made in milliseconds.

Each function writes a whole snapshot (config, generation config, safetensors weights, byte-level
tokenizer) into `path` and returns it. The same call always writes the same bytes.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

PAD, BEGIN, END = 0, 1, 2
FIRST_BYTE = 3
VOCABULARY_SIZE = 259
CONTEXT_LENGTH = 256

CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

_SPECIAL_IDS = {
    "vocab_size": VOCABULARY_SIZE,
    "pad_token_id": PAD,
    "bos_token_id": BEGIN,
    "eos_token_id": END,
}
_ROTARY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_LENGTH,
}


def tiny_llama(path: Path, *, chat_template: str | None = None, **overrides: Any) -> Path:
    """Llama: rotary positions, grouped key/value heads."""
    config = transformers.LlamaConfig(**_ROTARY | _SPECIAL_IDS | overrides)
    return _save(path, transformers.LlamaForCausalLM, config, chat_template=chat_template)


def tiny_mistral(path: Path, *, sliding_window: int = 8) -> Path:
    """Mistral: each token sees only the last `sliding_window` tokens."""
    config = transformers.MistralConfig(sliding_window=sliding_window, **_ROTARY, **_SPECIAL_IDS)
    return _save(path, transformers.MistralForCausalLM, config)


def tiny_qwen2(path: Path) -> Path:
    """Qwen2: biases on queries, keys and values."""
    config = transformers.Qwen2Config(**_ROTARY, **_SPECIAL_IDS)
    return _save(path, transformers.Qwen2ForCausalLM, config)


def tiny_qwen3(path: Path) -> Path:
    """Qwen3: norms on queries and keys, heads wider than the hidden size says."""
    config = transformers.Qwen3Config(head_dim=16, **_ROTARY, **_SPECIAL_IDS)
    return _save(path, transformers.Qwen3ForCausalLM, config)


def tiny_gemma2(path: Path) -> Path:
    """Gemma 2: capped logits, every other layer sees only the last 8 tokens."""
    config = transformers.Gemma2Config(
        head_dim=8, sliding_window=8, query_pre_attn_scalar=8, **_ROTARY, **_SPECIAL_IDS
    )
    return _save(path, transformers.Gemma2ForCausalLM, config)


def tiny_gemma3(path: Path) -> Path:
    """Gemma 3: a window and rotary frequencies of their own for some layers."""
    config = transformers.Gemma3TextConfig(
        head_dim=8,
        sliding_window=8,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention"],
        **_ROTARY,
        **_SPECIAL_IDS,
    )
    return _save(path, transformers.Gemma3ForCausalLM, config)


def tiny_phi(path: Path) -> Path:
    """Phi: partial rotary positions, a bias on the head."""
    config = transformers.PhiConfig(**_ROTARY, **_SPECIAL_IDS)
    return _save(path, transformers.PhiForCausalLM, config)


def tiny_mixtral(path: Path) -> Path:
    """Mixtral: a mixture of experts."""
    config = transformers.MixtralConfig(
        num_local_experts=4, num_experts_per_tok=2, **_ROTARY, **_SPECIAL_IDS
    )
    return _save(path, transformers.MixtralForCausalLM, config)


def tiny_falcon(path: Path, *, alibi: bool = False) -> Path:
    """Falcon: one key/value head for all queries."""
    config = transformers.FalconConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        alibi=alibi,
        **_SPECIAL_IDS,
    )
    return _save(path, transformers.FalconForCausalLM, config)


def tiny_falcon_alibi(path: Path) -> Path:
    """Falcon as it was first: ALiBi distances."""
    return tiny_falcon(path, alibi=True)


def tiny_gpt2(path: Path) -> Path:
    """GPT-2: learned positions, one fused projection, tied embeddings."""
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT_LENGTH, **_SPECIAL_IDS
    )
    return _save(path, transformers.GPT2LMHeadModel, config)


def tiny_gpt_neox(path: Path) -> Path:
    """GPT-NeoX: partial rotary positions, parallel residual."""
    config = transformers.GPTNeoXConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        **_SPECIAL_IDS,
    )
    return _save(path, transformers.GPTNeoXForCausalLM, config)


def tiny_mpt(path: Path) -> Path:
    """MPT: ALiBi distances, no position ids, and `use_cache` false in its own config."""
    config = transformers.MptConfig(
        d_model=32, n_layers=2, n_heads=4, max_seq_len=CONTEXT_LENGTH, **_SPECIAL_IDS
    )
    return _save(path, transformers.MptForCausalLM, config)


def tiny_bloom(path: Path) -> Path:
    """BLOOM: ALiBi distances computed from the attention mask."""
    config = transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **_SPECIAL_IDS)
    return _save(path, transformers.BloomForCausalLM, config)


def tiny_opt(path: Path) -> Path:
    """OPT: learned positions with an offset."""
    config = transformers.OPTConfig(
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        **_SPECIAL_IDS,
    )
    return _save(path, transformers.OPTForCausalLM, config)


def tiny_mamba(path: Path) -> Path:
    """Mamba: a state space instead of keys and values."""
    config = transformers.MambaConfig(
        hidden_size=32, state_size=8, num_hidden_layers=2, **_SPECIAL_IDS
    )
    return _save(path, transformers.MambaForCausalLM, config)


def tiny_remote_code(path: Path, *, hidden_size: int = 32) -> Path:
    """Write an architecture of its own, unknown to transformers: code files and `auto_map`."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "configuration_harbor.py").write_text(_REMOTE_CONFIGURATION)
    (path / "modeling_harbor.py").write_text(_REMOTE_MODELING)
    config = {
        "architectures": ["HarborForCausalLM"],
        "model_type": "harbor",
        "auto_map": {
            "AutoConfig": "configuration_harbor.HarborConfig",
            "AutoModelForCausalLM": "modeling_harbor.HarborForCausalLM",
        },
        "hidden_size": hidden_size,
        "layers": 2,
        "heads": 4,
        "positions": CONTEXT_LENGTH,
        "dtype": "float32",
        **_SPECIAL_IDS,
    }
    (path / "config.json").write_text(json.dumps(config, indent=2))
    transformers.GenerationConfig(
        pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END
    ).save_pretrained(path)
    save_file(_remote_weights(hidden_size), path / "model.safetensors", {"format": "pt"})
    save_tokenizer(path)
    return path


def save_tokenizer(path: Path, *, chat_template: str | None = None) -> None:
    """Write a byte-level tokenizer: `<pad>`, `<s>`, `</s>`, then the 256 bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<pad>", "<s>", "</s>", *alphabet]
    tokenizer = Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in tokens[:FIRST_BYTE]])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=chat_template,
    ).save_pretrained(path)


def _save(path: Path, model_class: Any, config: Any, *, chat_template: str | None = None) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config)
        _make_lively(model)
    model.generation_config = transformers.GenerationConfig(
        pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END
    )
    model.save_pretrained(path)
    save_tokenizer(path, chat_template=chat_template)
    return path


def _make_lively(model: torch.nn.Module) -> None:
    """Widen the weights: as initialised, a tiny model repeats one token for ever."""
    for name, weight in model.named_parameters():
        if weight.dim() == 2 and "A_log" not in name:
            torch.nn.init.normal_(weight, std=0.1 if "emb" in name or "wte" in name else 0.5)


def _remote_weights(width: int) -> dict[str, torch.Tensor]:
    shapes = {
        "tokens.weight": (VOCABULARY_SIZE, width),
        "positions.weight": (CONTEXT_LENGTH, width),
        "head.weight": (VOCABULARY_SIZE, width),
    }
    for layer in range(2):
        shapes[f"layers.{layer}.mix.weight"] = (3 * width, width)
        shapes[f"layers.{layer}.out.weight"] = (width, width)
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.5 for name, shape in shapes.items()}


_REMOTE_CONFIGURATION = '''\
"""Configuration of Harbor, an architecture that transformers does not know."""

from transformers import PretrainedConfig


class HarborConfig(PretrainedConfig):
    model_type = "harbor"
    attribute_map = {"num_hidden_layers": "layers", "num_attention_heads": "heads"}

    def __init__(self, vocab_size=259, hidden_size=32, layers=2, heads=4, positions=256, **kwargs):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.layers = layers
        self.heads = heads
        self.positions = positions
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)
'''

_REMOTE_MODELING = '''\
"""Harbor: attention over learned positions, written as a hub author would."""

import torch
from einops import rearrange
from torch import nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_harbor import HarborConfig


class HarborLayer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        self.heads, self.index = config.heads, index
        self.mix = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.out = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, hidden, cache, mask):
        query, key, value = (
            rearrange(part, "b t (h d) -> b h t d", h=self.heads)
            for part in self.mix(hidden).chunk(3, dim=-1)
        )
        key, value = cache.update(key, value, self.index)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return 0.2 * hidden + torch.tanh(self.out(rearrange(mixed, "b h t d -> b t (h d)")))


class HarborForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = HarborConfig
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.positions, config.hidden_size)
        self.layers = nn.ModuleList(HarborLayer(config, i) for i in range(config.layers))
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.tokens

    def get_output_embeddings(self):
        return self.head

    def _init_weights(self, module):
        pass

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        use_cache=None,
        return_dict=None,
        **kwargs,
    ):
        cache = DynamicCache() if past_key_values is None else past_key_values
        rows, length = input_ids.shape
        total = cache.get_seq_length() + length
        if attention_mask is None:
            attention_mask = input_ids.new_ones((rows, total))
        if position_ids is None:
            position_ids = torch.arange(total - length, total, device=input_ids.device)[None]
        columns = torch.arange(total, device=input_ids.device)
        causal = columns[None, :] <= columns[-length:, None]
        itself = columns[None, :] == columns[-length:, None]
        mask = (causal[None] & attention_mask[:, None, :].bool()) | itself[None]
        hidden = self.tokens(input_ids) + self.positions(position_ids)
        for layer in self.layers:
            hidden = layer(hidden, cache, mask[:, None])
        return CausalLMOutputWithPast(
            logits=self.head(hidden), past_key_values=cache if use_cache else None
        )
'''
