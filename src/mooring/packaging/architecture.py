"""Reads sizes out of a model's config.json, under the many names that authors gave them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mooring.errors import BrokenSource
from mooring.safetensors_header import StoredTensor

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "heads")
_KV_HEADS = (
    "num_key_value_heads",
    "num_kv_heads",
    "n_kv_heads",
    "n_head_kv",
    "kv_n_heads",
    "multi_query_group_num",
)
_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "model_dim")
_HEAD_DIM = ("head_dim", "kv_channels", "attention_head_dim")
_VOCABULARY = ("vocab_size", "padded_vocab_size", "n_vocab", "vocabulary_size")
_CONTEXT = (
    "max_position_embeddings",
    "max_seq_len",
    "max_sequence_length",
    "max_seq_length",
    "n_positions",
    "seq_length",
    "seq_len",
    "n_ctx",
)
_STATE_SPACE = ("mamba", "rwkv", "xlstm")
_WITHOUT_KEYS = ("linear", "mamba", "conv", "recurrent", "recurrence")
# Their matrices are in layers of another kind, which multiplies the other way round.
_CONV1D_TYPES = ("gpt2", "openai-gpt")
_FLOATS = ("F16", "BF16", "F32")
_HEADS_OF_TEXT = ("lm_head", "embed_out")
_NOT_LINEAR = ("emb", "wte", "wpe", ".experts.")
_GENERATING = ("CausalLM", "LMHead", "ConditionalGeneration")
_MAX_SIZE = 2**40


@dataclass(frozen=True)
class Architecture:
    """What config.json says about a model, with the tensors filling what it leaves out."""

    name: str
    model_type: str
    layers: int
    vocabulary_size: int | None
    context_length: int | None
    cache_values_per_token: int | None
    linear_values: int


def read_architecture(
    config: Mapping[str, Any], tensors: Iterable[StoredTensor], *, own_code: bool
) -> Architecture:
    """Return the architecture; raise `BrokenSource` if it is not a causal language model."""
    name = _causal_name(config, own_code=own_code)
    sizes = _Sizes(_text_part(config), tuple(tensors))
    return Architecture(
        name=name,
        model_type=str(config.get("model_type") or name),
        layers=sizes.layers,
        vocabulary_size=sizes.first(_VOCABULARY) or sizes.embedding_shape[0],
        context_length=sizes.first(_CONTEXT),
        cache_values_per_token=sizes.cache_values_per_token(own_code=own_code),
        linear_values=sizes.linear_values,
    )


def _causal_name(config: Mapping[str, Any], *, own_code: bool) -> str:
    own_classes = config.get("auto_map")
    if own_code and isinstance(own_classes, dict) and own_classes.get("AutoModelForCausalLM"):
        return _listed_name(config) or "own code"
    name = _listed_name(config)
    if name is not None and not any(ending in name for ending in _GENERATING):
        raise _not_causal(name)
    if config.get("is_encoder_decoder") is True:
        raise _not_causal(name or str(config.get("model_type")))
    model_type = config.get("model_type")
    if name is None and not (isinstance(model_type, str) and model_type):
        raise BrokenSource(
            "config.json must name the model's `architectures` or `model_type`. Given: neither. "
            "Replace it with the file of the original model."
        )
    return name or str(model_type)


def _listed_name(config: Mapping[str, Any]) -> str | None:
    match config.get("architectures"):
        case [str(name), *_]:
            return name
        case _:
            return None


def _not_causal(name: str) -> BrokenSource:
    return BrokenSource(
        "A model must be a causal language model (`...ForCausalLM`): it generates text from "
        f"left to right. Given: {name[:80]}. Choose such a model."
    )


def _text_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten the nested parts that describe the text model into one object."""
    merged = dict(config)
    for part in ("text_config", "attn_config"):
        inner = merged.get(part)
        if isinstance(inner, dict):
            merged.update(inner)
    return merged


class _Sizes:
    """The sizes of one model: a lookup under several names, then what the tensors show."""

    def __init__(self, config: Mapping[str, Any], tensors: tuple[StoredTensor, ...]) -> None:
        self._config = config
        self._tensors = tensors

    def first(self, names: Iterable[str]) -> int | None:
        """Return the first plain positive number; a list (one per layer) counts as its largest."""
        for name in names:
            value = self._config.get(name)
            values = value if isinstance(value, list) else [value]
            numbers = [number for number in values if type(number) is int]
            if numbers and 0 < max(numbers) < _MAX_SIZE:
                return max(numbers)
        return None

    @property
    def layers(self) -> int:
        return self.first(_LAYERS) or self._numbered_layers()

    @property
    def embedding_shape(self) -> tuple[int | None, int | None]:
        """Rows and columns of the token embedding, the first matrix with "emb" or "wte" in it."""
        for tensor in self._tensors:
            if len(tensor.shape) == 2 and any(word in tensor.name for word in ("emb", "wte")):
                return tensor.shape[0], tensor.shape[1]
        return None, None

    @property
    def linear_values(self) -> int:
        """Count the numbers in matrices of linear layers; one shared with the embedding is none."""
        if self._config.get("model_type") in _CONV1D_TYPES:
            return 0
        return sum(tensor.values for tensor in self._tensors if self._is_linear(tensor))

    def _is_linear(self, tensor: StoredTensor) -> bool:
        name = tensor.name
        if len(tensor.shape) != 2 or tensor.dtype not in _FLOATS or not name.endswith(".weight"):
            return False
        if any(word in name for word in _HEADS_OF_TEXT):
            return self._config.get("tie_word_embeddings") is not True
        return not any(word in name for word in _NOT_LINEAR)

    def cache_values_per_token(self, *, own_code: bool) -> int | None:
        """Count the numbers that one more token keeps; None for pure state-space models."""
        model_type = str(self._config.get("model_type") or "")
        heads = self.first(_HEADS)
        if any(word in model_type for word in _STATE_SPACE) and heads is None:
            return None
        if model_type.startswith("rwkv"):
            return None
        return self._caching_layers() * self._values_per_layer(heads, own_code=own_code)

    def _values_per_layer(self, heads: int | None, *, own_code: bool) -> int:
        latent, rotary = self.first(("kv_lora_rank",)), self.first(("qk_rope_head_dim",))
        if latent and rotary and heads:
            if not own_code:
                return latent + rotary
            nope, value = self.first(("qk_nope_head_dim",)) or 0, self.first(("v_head_dim",)) or 0
            return heads * (nope + rotary + value)
        hidden = self.first(_HIDDEN) or self.embedding_shape[1] or 0
        head_dim = self.first(_HEAD_DIM) or (hidden // heads if heads else hidden)
        return 2 * self._kv_heads(heads or 1) * head_dim

    def _kv_heads(self, heads: int) -> int:
        config = self._config
        if config.get("new_decoder_architecture") is True:
            return heads
        if config.get("attn_type") == "multiquery_attention":
            return 1
        grouped = config.get("multi_query_attention") is True
        if config.get("multi_query") is True and not grouped:
            return 1
        return self.first(_KV_HEADS) or heads

    def _caching_layers(self) -> int:
        kinds = self._config.get("layer_types")
        if not isinstance(kinds, list) or not kinds:
            return self.layers
        return sum(not any(word in str(kind) for word in _WITHOUT_KEYS) for kind in kinds)

    def _numbered_layers(self) -> int:
        numbers = [
            int(part)
            for tensor in self._tensors
            for part in tensor.name.split(".")
            if part.isascii() and part.isdigit() and len(part) < 5
        ]
        return max(numbers, default=0) + 1
