"""What service and engines need of a tokenizer, whichever library it comes from."""

from collections.abc import Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """Text to token ids and back; safe to call from several threads."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the token ids of `text`, with the model's own begin tokens if asked."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of `token_ids`, spaces left as they are."""

    def token_bytes(self, token_id: int) -> bytes:
        """Return what one token adds to a text: its own bytes, which may be part of a character."""
