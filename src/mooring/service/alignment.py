"""Tokens beside the pieces of text that they make."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mooring.generation import Likelihood, RivalToken, TextToken, Tokenizer
from mooring.service.detokenize import IncrementalText


class Alignment:
    """Holds tokens back until the piece of text comes in which their own text begins.

    So a token whose text is held back, or is not known yet, waits with it; and tokens whose text
    begins behind a stop string never come.
    """

    def __init__(self, tokenizer: Tokenizer, begin: int = 0) -> None:
        self._tokenizer = tokenizer
        self._waiting: deque[TextToken] = deque()
        self._released = self._begin = begin

    def add(self, token_id: int, likelihood: Likelihood, offset: int) -> None:
        """Take a token whose text begins at `offset` of the text that is aligned."""
        token = TextToken(token_id, b"", self._begin + offset)
        self._waiting.append(described(token, likelihood, self._tokenizer))

    def take(self, text: str, *, final: bool = False) -> tuple[TextToken, ...]:
        """Return the tokens that go with the next piece of text; all that wait if it is the last
        one.
        """
        self._released += len(text)
        taken = []
        while self._waiting and (final or self._waiting[0].offset < self._released):
            taken.append(self._waiting.popleft())
        return tuple(taken)


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt as an answer repeats it: its text, and its tokens where they are asked for."""

    text: str
    tokens: tuple[TextToken, ...] = ()


def echo_of(text: str, token_ids: Sequence[int], tokenizer: Tokenizer) -> Echo:
    """Return the echo of a prompt with its tokens, each where its text begins."""
    growing, tokens = IncrementalText(tokenizer), []
    for token_id in token_ids:
        offset = min(growing.decoded, len(text))
        tokens.append(TextToken(token_id, tokenizer.token_bytes(token_id), offset))
        growing.push(token_id)
    return Echo(text, tuple(tokens))


def described_prompt(
    echo: Echo, likelihoods: Sequence[Likelihood], tokenizer: Tokenizer
) -> tuple[TextToken, ...]:
    """Return the tokens of a prompt, the last ones with their likelihoods."""
    bare = len(echo.tokens) - len(likelihoods)
    last = zip(echo.tokens[bare:], likelihoods, strict=True)
    return echo.tokens[:bare] + tuple(described(*pair, tokenizer) for pair in last)


def described(token: TextToken, likelihood: Likelihood, tokenizer: Tokenizer) -> TextToken:
    """Return a token with its bytes, its likelihood, and the most likely ones with theirs."""
    return replace(
        token,
        raw=tokenizer.token_bytes(token.id),
        logprob=likelihood.logprob,
        top=tuple(RivalToken(id, tokenizer.token_bytes(id), p) for id, p in likelihood.top),
        rank=likelihood.rank,
    )
