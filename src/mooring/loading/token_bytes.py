"""The bytes that each token adds to a text, which may be part of a character."""

import re
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"


class TokenBytes:
    """Reads them off a `tokenizers.Tokenizer`, as its decoder would put them together."""

    def __init__(self, core: Any) -> None:
        self._core = core
        state = b"" if core.decoder is None else core.decoder.__getstate__()
        self._of_bytes = b'"ByteLevel"' in state
        self._falls_back = b'"ByteFallback"' in state
        self._marks_spaces = _SPACE.encode() in state
        self._added = {id: token.content for id, token in core.get_added_tokens_decoder().items()}
        self._known: dict[int, bytes] = {}

    def of(self, token_id: int) -> bytes:
        """Return the bytes of a token; none for an id that the tokenizer does not have."""
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._find(token_id)
        return known

    def _find(self, token_id: int) -> bytes:
        if token_id in self._added:
            return str(self._added[token_id]).encode()
        token: str | None = self._core.id_to_token(token_id)
        if token is None:
            return b""
        if self._of_bytes and all(character in _BYTE_OF for character in token):
            return bytes(_BYTE_OF[character] for character in token)
        byte = _BYTE.fullmatch(token) if self._falls_back else None
        if byte:
            return bytes.fromhex(byte[1])
        if self._marks_spaces:
            return token.replace(_SPACE, " ").encode()
        if self._of_bytes:
            return token.encode()
        return str(self._core.decode([token_id], skip_special_tokens=False)).encode()


def _byte_of() -> dict[str, int]:
    """Return the byte that each character of byte-level tokens stands for.

    Printable characters of Latin-1 stand for themselves; the other bytes, in order, have the
    characters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + place): byte for place, byte in enumerate(others)
    }


_BYTE_OF = _byte_of()
