"""Words that an answer must not have, as the tokens that would say them."""

from collections.abc import Iterable

from mooring.generation import Tokenizer

Ids = tuple[int, ...]


def banned_sequences(words: Iterable[str], tokenizer: Tokenizer) -> tuple[Ids, ...]:
    """Return the sequences of tokens that spell the words, alone and after a space.

    vLLM leaves the second out where it has another number of tokens. Other ways to spell a word,
    such as in pieces that the tokenizer itself would not make, are not found.
    """
    spelt = (
        tuple(tokenizer.encode(before + word.lstrip(), add_special_tokens=False))
        for word in words
        for before in ("", " ")
    )
    return tuple(dict.fromkeys(ids for ids in spelt if ids))
