"""What a model is, read from its config and safetensors headers without loading it."""

from pydantic import BaseModel, ConfigDict


class ModelFacts(BaseModel):
    """Architecture and sizes of one causal language model.

    `weight_bytes` is what the safetensors hold, `parameters` the number of values in them.
    `cache_values_per_token` counts the key and value numbers that one token adds to the cache over
    all layers, or None where the cache does not grow by token (state-space models).
    `linear_values` are those in matrices of linear layers, as far as names and shapes tell.
    `context_length` is in tokens, prompt and answer together; None where the config says nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    model_type: str
    parameters: int
    weight_bytes: int
    stored_dtypes: dict[str, int]
    layers: int
    vocabulary_size: int
    context_length: int | None
    cache_values_per_token: int | None
    own_code: bool
    end_token_ids: tuple[int, ...]
    linear_values: int = 0

    @property
    def half_precision(self) -> bool:
        """Whether most stored values have 16 bits."""
        stored = self.stored_dtypes
        return 2 * (stored.get("BF16", 0) + stored.get("F16", 0)) > sum(stored.values())
