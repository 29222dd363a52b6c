"""Without transformers a text has the same ids, and ids the same text, as with it."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mooring.errors import BrokenSource, CorruptArtifact
from mooring.loading.light_tokenizer import LightTokenizer, find_reading
from mooring.loading.tokenizer import TransformersTokenizer
from mooring.spec.tokenizer import TokenizerReading
from tests import models
from tests.tokenizers import CORPUS, SPECIAL, TOKENIZERS

Pair = tuple[LightTokenizer, TransformersTokenizer]

PIECES = (
    *SPECIAL, "<|im_start|>", "<|im_end|>", "[mask]", "<think>", "ship", "harbour", "Harbour",
    " ", "  ", "\n", "\t", "a", "é", "e\u0301", "▁", "<0x41>", "1234", "港口", "😀",
    *CORPUS.split()[:30],
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(st.characters(codec="utf-8"), max_size=8)).map(
    "".join
)
IDS = st.lists(st.integers(0, 450), max_size=20)


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """Return a tokenizer of TOKENIZERS, with transformers and without."""

    @cache
    def make(kind: str) -> Pair:
        folder = tmp_path_factory.mktemp("tokenizer")
        TOKENIZERS[kind](folder)
        reading = find_reading(folder, trust_remote_code=False)
        assert reading is not None
        # As it comes out of a manifest.
        stored = TokenizerReading.model_validate_json(reading.model_dump_json())
        return LightTokenizer(folder, stored), TransformersTokenizer(folder)

    return make


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=80, deadline=None)
@given(text=TEXTS, add=st.booleans())
def test_texts_have_the_same_ids(
    pair_of: Callable[[str], Pair], kind: str, text: str, add: bool
) -> None:
    light, whole = pair_of(kind)
    ids = whole.encode(text, add_special_tokens=add)
    assert light.encode(text, add_special_tokens=add) == ids
    assert light.decode(ids) == whole.decode(ids)
    assert light.text_of(ids) == whole.text_of(ids)


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=80, deadline=None)
@given(ids=IDS)
def test_ids_have_the_same_text(pair_of: Callable[[str], Pair], kind: str, ids: list[int]) -> None:
    light, whole = pair_of(kind)
    for skip in (True, False):
        text = whole.decode(ids, skip_special_tokens=skip)
        assert light.decode(ids, skip_special_tokens=skip) == text


def test_what_classes_replace_is_found(tmp_path: Path) -> None:
    TOKENIZERS["byte-level as Qwen"](tmp_path)
    reading = find_reading(tmp_path, trust_remote_code=False)
    assert reading is not None
    assert reading.parts["normalizer"] == {"type": "NFC"}
    assert set(reading.parts) == {"added_tokens", "normalizer", "pre_tokenizer"}
    plain = LightTokenizer(tmp_path, TokenizerReading())
    whole = TransformersTokenizer(tmp_path)
    text = "e\u0301 1234"
    assert plain.encode(text, add_special_tokens=True) != whole.encode(
        text, add_special_tokens=True
    )


def test_special_tokens_may_be_text(tmp_path: Path, pair_of: Callable[[str], Pair]) -> None:
    light, _ = pair_of("special tokens as text")
    assert 2 not in light.encode("a </s>", add_special_tokens=True)
    light, _ = pair_of("byte-level")
    assert 2 in light.encode("a </s>", add_special_tokens=True)


def test_other_tokenizers_need_transformers(tmp_path: Path) -> None:
    models.save_tokenizer(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    own = config | {"auto_map": {"AutoTokenizer": [None, "tokenization_x.X"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(own))
    assert find_reading(tmp_path, trust_remote_code=True) is None
    assert find_reading(tmp_path, trust_remote_code=False) is not None
    (tmp_path / "tokenizer.json").unlink()
    assert find_reading(tmp_path, trust_remote_code=False) is None


@pytest.mark.parametrize(
    "family",
    [
        "ParakeetTokenizer",  # says repeated tokens once
        "BertTokenizer",  # has another kind of vocabulary
    ],
)
def test_what_differs_needs_transformers(tmp_path: Path, family: str) -> None:
    models.save_tokenizer(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(config | {"tokenizer_class": family})
    )
    TransformersTokenizer(tmp_path)
    assert find_reading(tmp_path, trust_remote_code=False) is None


def test_a_broken_file_is_said(tmp_path: Path) -> None:
    models.save_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(BrokenSource, match="tokenizer cannot be loaded"):
        find_reading(tmp_path, trust_remote_code=False)
    with pytest.raises(CorruptArtifact, match=r"tokenizer\.json cannot be read"):
        LightTokenizer(tmp_path, TokenizerReading())


def test_it_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    models.save_tokenizer(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from mooring.loading.light_tokenizer import LightTokenizer\n"
        "from mooring.spec.tokenizer import TokenizerReading\n"
        "light = LightTokenizer(Path(sys.argv[1]), TokenizerReading())\n"
        "print(light.encode('a', add_special_tokens=True))\n"
        "print(sorted({'torch', 'transformers', 'mlflow'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["[67]", "[]"]
