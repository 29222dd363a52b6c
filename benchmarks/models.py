"""Models of a real size with random weights: speed does not depend on what weights say.

    python -m benchmarks.models FOLDER [S M R MPT-7B]

writes S, a Llama of 443 million parameters, M, an MPT of 435 million with ALiBi, and R, one of 421
million with code of its own, as bfloat16 safetensors with a byte-level BPE tokenizer of 32,000
tokens; the same bytes at every run. What is there already is kept. MPT-7B, with the dimensions of
the model of that name and 13.3 GB, is written only where it is named, in 5 GB of memory.
"""

import argparse
import fcntl
import json
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MptConfig,
    MptForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

VOCABULARY_SIZE = 32_000
SHARD_BYTES = 2_000_000_000
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


def mpt_7b() -> MptConfig:
    """Return the dimensions of MPT-7B: 6.6 billion parameters, tied embeddings, ALiBi."""
    return MptConfig(
        vocab_size=50_432, d_model=4096, n_layers=32, n_heads=32, max_seq_len=2048,
        use_cache=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


MODELS: dict[str, Callable[[], PreTrainedModel]] = {"S": make_s, "M": make_m, "R": make_r}
LARGE: dict[str, Callable[[], PreTrainedConfig]] = {"MPT-7B": mpt_7b}
OWN_CODE = frozenset({"R"})


def write_model(name: str, folder: Path) -> Path:
    """Write model `name` into `folder / name` where it is not there yet; return that folder."""
    target = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not target.exists():
            partial = target.with_name(f"{name}.part")
            shutil.rmtree(partial, ignore_errors=True)  # of a run that was ended
            if name in LARGE:
                write_piecewise(LARGE[name](), partial)
            else:
                _weights(MODELS[name]).save_pretrained(partial)
            partial.rename(target)
        if not (target / "tokenizer.json").exists():
            make_tokenizer().save_pretrained(target)
    return target


def write_piecewise(config: PreTrainedConfig, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write random weights for `config` shard by shard, so that no more is ever in memory."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tied = model.all_tied_weights_keys
    shapes = {name: of.shape for name, of in model.state_dict().items() if name not in tied}
    shards = _shards({name: 2 * shape.numel() for name, shape in shapes.items()}, shard_bytes)
    config.architectures = [type(model).__name__]
    config.dtype = torch.bfloat16
    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)
    random_numbers = torch.Generator().manual_seed(0)
    placed: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {name: _random(shapes[name], random_numbers) for name in names}
        save_file(tensors, folder / file, {"format": "pt"})
        placed |= dict.fromkeys(names, file)
    index = {
        "metadata": {"total_size": sum(2 * shape.numel() for shape in shapes.values())},
        "weight_map": placed,
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def _shards(sizes: dict[str, int], most: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    for name, size in sizes.items():
        if shards[-1] and sum(sizes[other] for other in shards[-1]) + size > most:
            shards.append([])
        shards[-1].append(name)
    return shards


def _random(shape: torch.Size, numbers: torch.Generator) -> torch.Tensor:
    """Return the ones of a norm, or a matrix that four bits hold: -8 to 7 times a step, or its
    opposite, for each 128 values.

    Rounding would change the tokens of weights drawn freely, far more than those of trained ones.
    Their mean must be zero: else it adds up in hidden values, and bfloat16 cannot hold the rest.
    """
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    steps = torch.randint(-7, 8, shape, generator=numbers, dtype=torch.int8)
    groups = steps.view(-1, 128)
    places = torch.randint(0, 128, (len(groups), 1), generator=numbers)
    signs = torch.randint(0, 2, places.shape, generator=numbers, dtype=torch.int8) * 2 - 1
    groups.scatter_(1, places, signs * 8)
    return steps.to(torch.bfloat16) * 2**-8


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
    parser.add_argument("models", nargs="*", help="S, M, R, MPT-7B; not given: all but the last")
    options = parser.parse_args()
    for name in options.models or MODELS:
        sys.stdout.write(f"{write_model(name, options.folder)}\n")


if __name__ == "__main__":
    main()
