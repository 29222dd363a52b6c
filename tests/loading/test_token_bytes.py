"""The bytes of tokens join to the bytes of the text, whatever the family of the tokenizer."""

from pathlib import Path

import pytest

from mooring.loading.light_tokenizer import LightTokenizer, find_reading
from mooring.loading.tokenizer import TransformersTokenizer
from tests import tokenizers

TEXTS = ("Hello, wörld!", "a  b\n\n\tc", "港口😀 1234", "\x00\x7f")


@pytest.mark.parametrize("family", tokenizers.TOKENIZERS)
def test_bytes_join_to_the_text(tmp_path: Path, family: str) -> None:
    tokenizers.TOKENIZERS[family](tmp_path)
    tokenizer = TransformersTokenizer(tmp_path)
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        joined = b"".join(map(tokenizer.token_bytes, ids)).decode()
        whole = tokenizer.decode(ids, skip_special_tokens=False)
        assert joined.strip(" ") == whole.strip(" ")
    reading = find_reading(tmp_path, trust_remote_code=False)
    if reading is not None:
        light = LightTokenizer(tmp_path, reading)
        for token_id in range(500):
            assert light.token_bytes(token_id) == tokenizer.token_bytes(token_id)
