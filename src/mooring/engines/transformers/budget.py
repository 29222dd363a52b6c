"""How many tokens' keys and values may be in memory at once."""

from typing import Any

import torch

from mooring.errors import InvalidParameter
from mooring.machine import read_memory

_SHARE_FOR_CACHE = 0.5


def bytes_per_token(cache: Any) -> int:
    """Return what one token of one row takes in all layers of a filled cache."""
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return int(sum(tensor[:, :, 0].nbytes for tensor in tensors))


def plan_tokens(wanted_bytes: int | None, per_token: int, most_useful: int, device: str) -> int:
    """Return how many tokens fit into `wanted_bytes`, or half of the free memory; not more than
    `most_useful`.

    Raises `InvalidParameter` if not even two tokens fit.
    """
    limit = int(_free_bytes(device) * _SHARE_FOR_CACHE) if wanted_bytes is None else wanted_bytes
    tokens = min(limit // per_token, most_useful)
    if tokens < 2:
        raise InvalidParameter(
            f"`cache_bytes` must be >= {2 * per_token}, two tokens of this model. "
            f"Given: {limit}. Raise it.",
            param="cache_bytes",
        )
    return tokens


def _free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info()[0])
    return read_memory()[1]
