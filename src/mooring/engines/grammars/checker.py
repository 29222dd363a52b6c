"""The process that tries grammars: some take for ever to compile, some end whoever compiles them.

Each line that it reads is a grammar, each that it writes a reason against it or null, as JSON.
"""

import json
import resource
import sys
from contextlib import suppress
from pathlib import Path

from llguidance import LLTokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mooring.engines.grammars.compiling import (
    GrammarError,
    compile_grammar,
    deeply,
    require_sound,
)
from mooring.generation import Grammar

_CPU_SECONDS = 2
_MEMORY_BYTES = 2 * 1024**3


def main() -> None:
    """Try grammars until there are no more; the argument is the model's `tokenizer.json`."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _MEMORY_BYTES)
    tokenizer = LLTokenizer(_small_tokenizer(_special_tokens(Path(sys.argv[1]))))
    for line in sys.stdin:
        kind, source = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + _CPU_SECONDS)
        reason = deeply(lambda: _try(Grammar(kind, source), tokenizer)).result()  # noqa: B023
        sys.stdout.write(json.dumps(reason) + "\n")
        sys.stdout.flush()


def _try(grammar: Grammar, tokenizer: LLTokenizer) -> str | None:
    """Return why a grammar cannot be used."""
    try:
        matcher = compile_grammar(grammar, tokenizer)
        matcher.compute_bitmask()
        require_sound(matcher)
    except GrammarError as error:
        return str(error)
    return None


def _limit(what: int, most: int) -> None:
    """Have the kernel end this process when it takes more, where it can."""
    _, hard = resource.getrlimit(what)
    with suppress(ValueError, OSError):
        resource.setrlimit(what, (most, hard))


def _small_tokenizer(special: list[str]) -> str:
    """Return a tokenizer of single bytes and the special tokens that grammars may name.

    Whether a grammar can be used does not depend on the other tokens, and this one takes no memory.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: id for id, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return str(tokenizer.to_str())


def _special_tokens(file: Path) -> list[str]:
    if not file.is_file():
        return ["</s>"]
    added = json.loads(file.read_bytes()).get("added_tokens") or []
    return ["</s>", *(token["content"] for token in added if token.get("special"))]


if __name__ == "__main__":
    main()
