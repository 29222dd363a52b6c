"""The model's own tokenizer without transformers, read as transformers was seen to read it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mooring.errors import CorruptArtifact
from mooring.loading.token_bytes import TokenBytes
from mooring.loading.tokenizer import ModelTokenizer, TransformersTokenizer
from mooring.spec.tokenizer import TokenizerReading

TOKENIZER_FILE = "tokenizer.json"
_VOCABULARY = ("vocab", "merges")

# Set anew at every call, so what the file says of them never counts.
_PER_CALL = ("truncation", "padding")

# Texts that tell tokenizers apart: spaces, line ends, cases, digits, accents in both normal forms,
# scripts without spaces, characters of four bytes, control characters.
_TELLING_TEXTS = (
    "",
    " ",
    "   two  and three   ",
    "Hello world, it's 12345.67 o'clock\n\n\tI'LL  go!\r\n",
    "  indented:\n    def f(x): return x**2 # ???",
    "Füße, e\u0301le\u0300ve, İ, ﬁ, Ⅷ, ½",
    "港口里有一艘船。ある船 배 มีเรือ",
    "😀👩‍👩‍👧 \u200b\u00a0\u2581 \x00\x7f\ufffd",
)


class LightTokenizer(ModelTokenizer):
    """Runs tokenizer.json of a snapshot with the `tokenizers` library alone."""

    def __init__(self, snapshot: Path, reading: TokenizerReading) -> None:
        try:
            text = (snapshot / TOKENIZER_FILE).read_text("utf-8")
            self._tokenizer = Tokenizer.from_str(_with_changes(text, reading))
        except Exception as error:  # noqa: BLE001 - the library raises nothing more precise
            raise CorruptArtifact(
                f"{TOKENIZER_FILE} cannot be read ({type(error).__name__}). "
                "Package the model again."
            ) from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = reading.special_tokens_are_text
        self._bytes = TokenBytes(self._tokenizer)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the token ids of `text`, with the model's own begin tokens if asked."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of `token_ids`, spaces left as they are."""
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """Return what one token adds to a text: its own bytes, which may be part of a character."""
        return self._bytes.of(token_id)


def find_reading(snapshot: Path, *, trust_remote_code: bool) -> TokenizerReading | None:
    """Return how tokenizer.json must be read to tokenize as transformers does.

    None where that is not enough: without the file, with a tokenizer of the model's own code, and
    where the two were seen to differ. Raises `BrokenSource` where transformers cannot load it and
    `MissingDependency` without transformers.
    """
    if not (snapshot / TOKENIZER_FILE).is_file():
        return None
    if trust_remote_code and _has_own_code(snapshot):
        return None
    whole = TransformersTokenizer(snapshot, trust_remote_code=trust_remote_code)
    if not isinstance(whole.core, Tokenizer):
        return None
    own = json.loads(Tokenizer.from_file(str(snapshot / TOKENIZER_FILE)).to_str())
    seen = json.loads(whole.core.to_str())
    if any(own["model"].get(key) != seen["model"].get(key) for key in _VOCABULARY):
        return None
    reading = TokenizerReading(
        parts=_changed(own, seen, but=("model", *_PER_CALL)),
        model_options=_changed(own["model"], seen["model"], but=_VOCABULARY),
        special_tokens_are_text=whole.core.encode_special_tokens,
    )
    return reading if _same(LightTokenizer(snapshot, reading), whole) else None


def _has_own_code(snapshot: Path) -> bool:
    try:
        config = json.loads((snapshot / "tokenizer_config.json").read_bytes())
    except OSError:
        return False
    return "auto_map" in config


def _with_changes(text: str, reading: TokenizerReading) -> str:
    if not reading.parts and not reading.model_options:
        return text
    tokenizer = json.loads(text)
    tokenizer |= reading.parts
    tokenizer["model"] |= reading.model_options
    return json.dumps(tokenizer, ensure_ascii=False)


def _changed(own: dict[str, Any], seen: dict[str, Any], but: Sequence[str]) -> dict[str, Any]:
    return {
        key: value
        for key, value in seen.items()
        if key not in but and (key not in own or own[key] != value)
    }


def _same(light: LightTokenizer, whole: TransformersTokenizer) -> bool:
    """Compare texts, each special and added token within a text, and what becomes of their ids."""
    added = [token.content for token in whole.core.get_added_tokens_decoder().values()]
    texts = [*_TELLING_TEXTS, *(f"a {token} b{token}c {token.upper()}" for token in added)]
    for text in texts:
        ids = light.encode(text, add_special_tokens=True)
        bare = light.encode(text, add_special_tokens=False)
        if (
            ids != whole.encode(text, add_special_tokens=True)
            or bare != whole.encode(text, add_special_tokens=False)
            or light.decode(ids) != whole.decode(ids)
            or light.text_of(ids) != whole.text_of(ids)
        ):
            return False
    return True
