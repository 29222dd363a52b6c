"""Remote code as older hubs have it: a tuple for a cache, or no cache, and no position ids."""

from pathlib import Path

from tests.models import tiny_remote_code

_LEGACY_MODELING = '''\
"""Harbor as it was: keys and values in a tuple of tuples, its own input preparation."""

import torch
from einops import rearrange
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_harbor import HarborConfig

KEEPS_CACHE = True


class HarborLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads = config.heads
        self.mix = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.out = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, hidden, past):
        query, key, value = (
            rearrange(part, "b t (h d) -> b h t d", h=self.heads)
            for part in self.mix(hidden).chunk(3, dim=-1)
        )
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        length, total = query.shape[2], key.shape[2]
        mask = torch.ones(length, total, dtype=torch.bool).tril(total - length)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        hidden = 0.2 * hidden + torch.tanh(self.out(rearrange(mixed, "b h t d -> b t (h d)")))
        return hidden, (key, value)


class HarborForCausalLM(PreTrainedModel):
    config_class = HarborConfig

    def __init__(self, config):
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.positions, config.hidden_size)
        self.layers = nn.ModuleList(HarborLayer(config) for _ in range(config.layers))
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _init_weights(self, module):
        pass

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, **kwargs):
        if past_key_values is not None:
            input_ids = input_ids[:, -1:]
        return {
            "input_ids": input_ids,
            "past_key_values": past_key_values,
            "use_cache": kwargs.get("use_cache"),
        }

    def forward(self, input_ids, past_key_values=None, use_cache=None, return_dict=None):
        past = past_key_values or [None] * len(self.layers)
        begin = 0 if past[0] is None else past[0][0].size(2)
        hidden = self.tokens(input_ids)
        hidden = hidden + self.positions.weight[begin : begin + input_ids.shape[1]]
        caches = ()
        for layer, layer_past in zip(self.layers, past):
            hidden, layer_cache = layer(hidden, layer_past)
            caches += (layer_cache,)
        keep = use_cache and KEEPS_CACHE
        return CausalLMOutputWithPast(
            logits=self.head(hidden), past_key_values=caches if keep else None
        )
'''


def legacy_remote_code(path: Path, *, keeps_cache: bool) -> Path:
    """Write the weights of `tiny_remote_code` with modeling code of the old kind."""
    tiny_remote_code(path)
    code = _LEGACY_MODELING.replace("KEEPS_CACHE = True", f"KEEPS_CACHE = {keeps_cache}")
    (path / "modeling_harbor.py").write_text(code)
    return path
