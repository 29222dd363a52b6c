"""Models of a real size with random weights: speed does not depend on what weights say.

    python -m benchmarks.models FOLDER [S M R]

writes S, a Llama of 443 million parameters, M, an MPT of 435 million with ALiBi, and R, one of 421
million with code of its own, as bfloat16 safetensors with a byte-level BPE tokenizer of 32,000
tokens; the same bytes at every run. What is there already is kept.
"""

import argparse
import fcntl
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MptConfig,
    MptForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

VOCABULARY_SIZE = 32_000
PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"

_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwz", "aeiou"
_DISTINCT_WORDS = 40_000


def make_s() -> PreTrainedModel:
    """Return Llama: rotary positions, 16 heads on 8 key/value heads, 443 million parameters."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY_SIZE, hidden_size=1024, intermediate_size=4096,
            num_hidden_layers=24, num_attention_heads=16, num_key_value_heads=8,
            max_position_embeddings=4096, tie_word_embeddings=False,
            bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip


def make_m() -> PreTrainedModel:
    """Return MPT: ALiBi distances, tied embeddings, 435 million parameters."""
    return MptForCausalLM(
        MptConfig(
            vocab_size=VOCABULARY_SIZE, d_model=1024, n_layers=32, n_heads=16, max_seq_len=2048,
            use_cache=True,
        )
    )  # fmt: skip


def make_r() -> PreTrainedModel:
    """Return Kelp, whose code is saved with it: learned positions, 421 million parameters."""
    from benchmarks.own_code.configuration_kelp import KelpConfig
    from benchmarks.own_code.modeling_kelp import KelpForCausalLM

    KelpConfig.register_for_auto_class()
    KelpForCausalLM.register_for_auto_class("AutoModelForCausalLM")
    return KelpForCausalLM(KelpConfig(bos_token_id=1, eos_token_id=2))


MODELS: dict[str, Callable[[], PreTrainedModel]] = {"S": make_s, "M": make_m, "R": make_r}
OWN_CODE = frozenset({"R"})


def write_model(name: str, folder: Path) -> Path:
    """Write model `name` into `folder / name` where it is not there yet; return that folder."""
    target = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not (target / "model.safetensors").exists():
            partial = target.with_name(f"{name}.part")
            _weights(MODELS[name]).save_pretrained(partial)
            partial.rename(target)
        if not (target / "tokenizer.json").exists():
            make_tokenizer().save_pretrained(target)
    return target


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE of 32,000 tokens, trained on made-up words."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        _made_up_lines(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY_SIZE,
            min_frequency=1,
            special_tokens=[PAD, BEGIN, END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    if bpe.get_vocab_size() != VOCABULARY_SIZE:
        raise RuntimeError(f"The words gave {bpe.get_vocab_size()} tokens.")
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def _weights(make: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        return make()
    finally:
        torch.set_default_dtype(before)


def _made_up_lines() -> Iterator[str]:
    draw = random.Random(0)
    for _ in range(_DISTINCT_WORDS // 10):
        yield " ".join(_made_up_word(draw) for _ in range(10))


def _made_up_word(draw: random.Random) -> str:
    return "".join(
        draw.choice(_CONSONANTS) + draw.choice(_VOWELS) for _ in range(draw.randint(2, 5))
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let two benchmarks that begin together write a model once."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Write the models that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*", help="S, M, R; all if not given")
    options = parser.parse_args()
    for name in options.models or MODELS:
        sys.stdout.write(f"{write_model(name, options.folder)}\n")


if __name__ == "__main__":
    main()
