"""Configuration of Kelp, an architecture that transformers does not have."""

from typing import Any

from transformers import PretrainedConfig


class KelpConfig(PretrainedConfig):  # type: ignore[misc]
    """Sizes of a Kelp model; `positions` is the longest context, in tokens."""

    model_type = "kelp"
    attribute_map = {"num_hidden_layers": "layers", "num_attention_heads": "heads"}  # noqa: RUF012

    def __init__(
        self,
        vocab_size: int = 32_000,
        hidden_size: int = 1024,
        layers: int = 28,
        heads: int = 16,
        positions: int = 2048,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.layers = layers
        self.heads = heads
        self.positions = positions
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)
