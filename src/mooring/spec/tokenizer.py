"""How a model's tokenizer.json has to be read: what its own class in transformers makes of it."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class TokenizerReading(BaseModel):
    """What the `tokenizers` library must know to tokenize as transformers does.

    Many classes of transformers build a tokenizer of their own out of the vocabulary in
    tokenizer.json. `parts` are those parts of the file that they replace (`pre_tokenizer`,
    `post_processor`, ...), `model_options` what they replace beside the vocabulary.
    `special_tokens_are_text` says that special tokens within a text are not told from text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: dict[str, Any] = {}
    model_options: dict[str, Any] = {}
    special_tokens_are_text: bool = False
