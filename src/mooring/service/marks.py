"""Special tokens that belong to an answer: their text is shown where a tokenizer would drop it."""

from collections.abc import Sequence

from mooring.generation import Tokenizer


def with_marks(tokenizer: Tokenizer, marks: Sequence[str]) -> Tokenizer:
    """Return `tokenizer`, or one that shows those `marks` that it drops as special."""
    dropped = special_marks(tokenizer, marks)
    return _MarkedTokenizer(tokenizer, dropped) if dropped else tokenizer


def special_marks(tokenizer: Tokenizer, marks: Sequence[str]) -> dict[int, str]:
    """Return those of `marks` that `tokenizer` counts as special, by their ids."""
    special = {}
    for mark in marks:
        ids = tokenizer.encode(mark, add_special_tokens=False)
        if ids and not tokenizer.decode(ids[-1:]):
            special[ids[-1]] = mark
    return special


def with_special(tokenizer: Tokenizer) -> Tokenizer:
    """Return a tokenizer that shows all special tokens."""
    return _ShowingTokenizer(tokenizer)


class _ShowingTokenizer:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def token_bytes(self, token_id: int) -> bytes:
        return self._tokenizer.token_bytes(token_id)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=False)


class _MarkedTokenizer:
    def __init__(self, tokenizer: Tokenizer, marks: dict[int, str]) -> None:
        self._tokenizer = tokenizer
        self._marks = marks

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def token_bytes(self, token_id: int) -> bytes:
        return self._tokenizer.token_bytes(token_id)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        if not skip_special_tokens:
            return self._tokenizer.decode(token_ids, skip_special_tokens=False)
        text, start = "", 0
        for at, token_id in enumerate(token_ids):
            if token_id in self._marks:
                text += self._between(token_ids, start, at) + self._marks[token_id]
                start = at + 1
        return text + self._between(token_ids, start, len(token_ids))

    def _between(self, token_ids: Sequence[int], start: int, end: int) -> str:
        return self._tokenizer.decode(token_ids[start:end]) if end > start else ""
