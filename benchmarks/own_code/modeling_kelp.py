"""Kelp: a decoder as its author would put it on a hub, with attention and masks of its own."""

from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_kelp import KelpConfig


class KelpAttention(nn.Module):
    """Causal attention of `heads` heads; the cache holds `[rows, heads, seen, head_dim]`."""

    def __init__(self, config: KelpConfig, index: int) -> None:
        super().__init__()
        self.heads, self.index = config.heads, index
        self.mix = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: torch.Tensor, cache: Any, mask: torch.Tensor) -> torch.Tensor:
        """Return what `hidden` `[rows, new, width]` attends to, in the same shape."""
        split = self.mix(hidden).unflatten(-1, (3, self.heads, -1))
        query, key, value = (part.transpose(1, 2) for part in split.unbind(2))
        key, value = cache.update(key, value, self.index)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        output: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return output


class KelpLayer(nn.Module):
    """Attention and two linear layers, each after a norm and beside a shortcut."""

    def __init__(self, config: KelpConfig, index: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = KelpAttention(config, index)
        self.rise, self.fall = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: torch.Tensor, cache: Any, mask: torch.Tensor) -> torch.Tensor:
        """Return `hidden` `[rows, new, width]` after this layer."""
        hidden = hidden + self.attention(self.first_norm(hidden), cache, mask)
        risen = nn.functional.gelu(self.rise(self.second_norm(hidden)))
        output: torch.Tensor = hidden + self.fall(risen)
        return output


class KelpForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Predicts the next token."""

    config_class = KelpConfig
    _supports_sdpa = True

    def __init__(self, config: KelpConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.positions, config.hidden_size)
        self.layers = nn.ModuleList(KelpLayer(config, index) for index in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the table of tokens."""
        return self.tokens

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> Any:
        """Return logits `[rows, new, vocabulary]` and the cache, with the new tokens in it."""
        cache = DynamicCache() if past_key_values is None else past_key_values
        rows, new = input_ids.shape
        seen = cache.get_seq_length() + new
        columns = torch.arange(seen, device=input_ids.device)
        if attention_mask is None:
            attention_mask = input_ids.new_ones((rows, seen))
        if position_ids is None:
            position_ids = columns[None, -new:]
        causal = columns[None, :] <= columns[-new:, None]
        itself = columns[None, :] == columns[-new:, None]
        mask = (causal[None] & attention_mask[:, None, :].bool()) | itself[None]
        hidden = self.tokens(input_ids) + self.positions(position_ids)
        for layer in self.layers:
            hidden = layer(hidden, cache, mask[:, None])
        logits = self.head(self.norm(hidden))
        return CausalLMOutputWithPast(logits=logits, past_key_values=cache if use_cache else None)
