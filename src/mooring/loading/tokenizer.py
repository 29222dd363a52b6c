"""The model's own tokenizer: as transformers loads it, and what is the same for every kind."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from mooring.errors import BrokenSource, MissingDependency
from mooring.loading.token_bytes import TokenBytes


class ModelTokenizer(ABC):
    """Text to token ids and back; safe to call from several threads."""

    @abstractmethod
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the token ids of `text`, with the model's own begin tokens if asked."""

    @abstractmethod
    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of `token_ids`, spaces left as they are."""

    @abstractmethod
    def token_bytes(self, token_id: int) -> bytes:
        """Return what one token adds to a text: its own bytes, which may be part of a character."""

    def text_of(self, token_ids: Sequence[int]) -> str | None:
        """Return the text that encodes, begin tokens added, to exactly these ids; None if none."""
        ids = list(token_ids)
        for start in range(min(2, len(ids))):
            text = self.decode(ids[start:], skip_special_tokens=False)
            if self.encode(text, add_special_tokens=True) == ids:
                return text
        return None


class TransformersTokenizer(ModelTokenizer):
    """Wraps `AutoTokenizer`, fast or slow; one call at a time, as its Rust core demands."""

    def __init__(self, snapshot: Path, *, trust_remote_code: bool = False) -> None:
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise MissingDependency(
                "This model's tokenizer needs transformers. "
                "Install it with: pip install 'mooring[transformers]'"
            ) from None
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                snapshot, local_files_only=True, trust_remote_code=trust_remote_code
            )
        except Exception as error:
            raise BrokenSource(
                "The tokenizer cannot be loaded. Check tokenizer.json and tokenizer_config.json "
                f"of the model ({type(error).__name__})."
            ) from error
        self._lock = Lock()
        self._bytes = None if self.core is None else TokenBytes(self.core)

    @property
    def core(self) -> Any:
        """The `tokenizers.Tokenizer` within, None for a tokenizer written in Python."""
        return getattr(self._tokenizer, "backend_tokenizer", None)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the token ids of `text`, with the model's own begin tokens if asked."""
        with self._lock:
            ids: list[int] = self._tokenizer.encode(
                text, add_special_tokens=add_special_tokens, verbose=False
            )
        return ids

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of `token_ids`, spaces left as they are."""
        with self._lock:
            text: str = self._tokenizer.decode(
                list(token_ids),
                skip_special_tokens=skip_special_tokens,
                clean_up_tokenization_spaces=False,
            )
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """Return what one token adds to a text: its own bytes, which may be part of a character."""
        if self._bytes is None:
            return self.decode([token_id], skip_special_tokens=False).encode()
        with self._lock:
            return self._bytes.of(token_id)
