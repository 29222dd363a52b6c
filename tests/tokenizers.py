"""Tokenizers of every family on disk, trained in milliseconds: what a snapshot has of one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import models as kinds

import mooring.demo
from tests import models

SPECIAL = ("<unk>", "<s>", "</s>")
CORPUS = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request. What is machine learning? Machine learning is a way to build programs that learn "
    "patterns from data instead of following rules, and it's 1234567 times 3.14 harder, I'll say!\n"
    "    def moor(ship):\n        return ship\n\tFüße, Über, élève. 港口里有一艘船。😀"
)
_SPLIT = r"\p{N}{1,3}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _byte_level(path: Path, **settings: Any) -> None:
    """BPE over bytes, as of GPT-2, Llama 3, Qwen and most others."""
    tokenizer = Tokenizer(kinds.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [CORPUS],
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=list(SPECIAL), initial_alphabet=alphabet,
            show_progress=False,
        ),
    )  # fmt: skip
    _save(path, tokenizer, **settings)


def _byte_fallback(path: Path, *, legacy: bool = False, spaces: bool = True, **more: Any) -> None:
    """BPE over characters with bytes for the rest, as of Llama 2, Mistral and Gemma."""
    learner = Tokenizer(kinds.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    learner.train_from_iterator([CORPUS], trainers.BpeTrainer(vocab_size=150, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    names = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "<pad>", "<mask>", "<bos>"]
    names += [token for token in learned["vocab"] if token not in names]
    tokenizer = Tokenizer(
        kinds.BPE(
            {token: number for number, token in enumerate(names)},
            [tuple(pair) for pair in learned["merges"]],
            byte_fallback=True, fuse_unk=True, unk_token="<unk>",
        )
    )  # fmt: skip
    if legacy:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    elif spaces:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] * spaces)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    _save(path, tokenizer, **more)


def _unigram(path: Path, **settings: Any) -> None:
    """Pieces with scores, as SentencePiece trains them by default."""
    tokenizer = Tokenizer(kinds.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=list(SPECIAL), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    _save(path, tokenizer, **settings)


def _added(path: Path) -> None:
    """Added tokens of every kind, special or not, among them such as only the config names."""
    _byte_level(
        path,
        additional_special_tokens=[AddedToken("<|im_start|>", lstrip=True), "<|im_end|>"],
        mask_token=AddedToken("[mask]", rstrip=True, normalized=True),
    )
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.add_tokens(
        [AddedToken("<think>", normalized=False), AddedToken("ship", single_word=True), "harbour"]
    )
    tokenizer.save(str(path / "tokenizer.json"))


def _save(path: Path, tokenizer: Tokenizer, *, family: str = "", **settings: Any) -> None:
    settings = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"} | settings
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings).save_pretrained(
        path
    )
    if family:
        file = path / "tokenizer_config.json"
        config = json.loads(file.read_text()) | {"tokenizer_class": family}
        file.write_text(json.dumps(config))


def _demo(path: Path) -> None:
    for file in mooring.demo.snapshot_path().iterdir():
        if file.name.startswith(("tokenizer", "special", "chat", "config")):
            (path / file.name).write_bytes(file.read_bytes())


def _byte_level_as(family: str) -> Callable[[Path], None]:
    return lambda path: _byte_level(path, family=family)


TOKENIZERS: dict[str, Callable[[Path], None]] = {
    "bytes alone": models.save_tokenizer,
    "demo": _demo,
    "byte-level": _byte_level,
    "byte-level as GPT-2": _byte_level_as("GPT2Tokenizer"),
    "byte-level as GPT-NeoX": _byte_level_as("GPTNeoXTokenizerFast"),
    "byte-level as Qwen": _byte_level_as("Qwen2TokenizerFast"),
    "byte-level as Cohere": _byte_level_as("CohereTokenizer"),
    "byte-level as Llama": _byte_level_as("LlamaTokenizerFast"),
    "begin and end added": lambda path: _byte_level(
        path, add_bos_token=True, add_eos_token=True, family="GPT2Tokenizer"
    ),
    "special tokens as text": lambda path: _byte_level(path, split_special_tokens=True),
    "added tokens": _added,
    "byte fallback": _byte_fallback,
    "byte fallback, legacy": lambda path: _byte_fallback(path, legacy=True),
    "byte fallback as Llama": lambda path: _byte_fallback(path, family="LlamaTokenizer"),
    "byte fallback as Llama, legacy": lambda path: _byte_fallback(
        path, legacy=True, family="LlamaTokenizerFast"
    ),
    "byte fallback as Gemma": lambda path: _byte_fallback(
        path, spaces=False, family="GemmaTokenizer", bos_token="<bos>"
    ),
    "unigram": _unigram,
}
"""Each writes the files of a tokenizer into a folder that exists."""
