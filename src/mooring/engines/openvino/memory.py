"""How many tokens' keys and values the paged cache may hold."""

from mooring.errors import InvalidParameter
from mooring.machine import read_memory

BLOCK_TOKENS = 32

_SHARE_FOR_CACHE = 0.5
# What one key or value takes; eight-bit ones bring a scale and an offset for each head.
_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "uint8": 1.25}
# For models whose config does not say: that of a layer-rich model of seven billion parameters.
_UNKNOWN_VALUES = 2 * 32 * 4096


def plan_cache_tokens(
    wanted_bytes: int | None, values_per_token: int | None, dtype: str, *, most_useful: int
) -> int:
    """Return how many tokens fit into `wanted_bytes`, or half of the free memory, in whole blocks;
    not more than `most_useful`, rounded up.

    Raises `InvalidParameter` if not even two blocks fit.
    """
    limit = int(read_memory()[1] * _SHARE_FOR_CACHE) if wanted_bytes is None else wanted_bytes
    per_block = int((values_per_token or _UNKNOWN_VALUES) * _BYTES[dtype] * BLOCK_TOKENS)
    blocks = min(limit // per_block, -(-most_useful // BLOCK_TOKENS))
    if blocks < 2:
        raise InvalidParameter(
            f"`cache_bytes` must be >= {2 * per_block}, {2 * BLOCK_TOKENS} tokens of this model. "
            f"Given: {limit}. Raise it.",
            param="cache_bytes",
        )
    return blocks * BLOCK_TOKENS
