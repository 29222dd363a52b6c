"""Keeps the tokens of a row to a grammar: which may come next, and whether it is complete.

What may come next is worked out in threads of their own, while the model makes its step.
"""

import os
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import torch

from mooring.engines.grammars.compiling import (
    GrammarError,
    compile_grammar,
    deeply,
    require_sound,
)
from mooring.generation import GenerationRequest, Grammar

if TYPE_CHECKING:
    from llguidance import LLMatcher

_COMPILED = 32
_MOST_THREADS = 8


class Grammars:
    """Makes constraints for one model, with its tokenizer as `tokenizer.json` has it.

    `vocabulary_size` is that of the logits, which are on `device`. Raises `ValueError` for a
    tokenizer that the library cannot take.
    """

    def __init__(
        self,
        tokenizer: Path,
        end_token_ids: Collection[int],
        vocabulary_size: int,
        device: torch.device,
    ) -> None:
        from llguidance import LLTokenizer

        ends = sorted(end_token_ids) or None
        self._tokenizer = LLTokenizer(tokenizer.read_text("utf-8"), eos_token=ends)
        self._vocabulary_size = vocabulary_size
        self._device = device
        self._bits = torch.arange(8, dtype=torch.uint8, device=device)
        self._compiling = Lock()
        self._compiled = lru_cache(_COMPILED)(self._compile)
        self.threads = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), "masks")

    def constrain(self, request: GenerationRequest) -> "Constraint | None":
        """Return what keeps a request to its grammar, after the tokens it has; compiled later."""
        if request.grammar is None:
            return None
        return Constraint(self, deeply(partial(self._begin, request.grammar, request)))

    def mask(self, bits: bytes) -> torch.Tensor:
        """Return which tokens may come next, `[vocabulary]`, from one bit for each."""
        packed = torch.frombuffer(bytearray(bits), dtype=torch.uint8).to(self._device)
        allowed = (packed[:, None] >> self._bits).bitwise_and_(1).flatten().bool()
        missing = self._vocabulary_size - len(allowed)
        return torch.nn.functional.pad(allowed, (0, missing))  # cuts where it is negative

    def _begin(self, grammar: Grammar, request: GenerationRequest) -> "LLMatcher":
        with self._compiling:
            matcher = self._compiled(grammar).deep_copy()
        matcher.consume_tokens(list(request.generated_ids))
        require_sound(matcher)
        return matcher

    def _compile(self, grammar: Grammar) -> "LLMatcher":
        return compile_grammar(grammar, self._tokenizer)


class Constraint:
    """One row's place in its grammar.

    `complete` says that nothing can follow, `failure` why it can go no further.
    """

    def __init__(self, grammars: Grammars, opening: "Future[LLMatcher]") -> None:
        self._grammars = grammars
        self._opening = opening
        self._bits: Future[bytes] | None = None
        self.complete = False
        self.failure: str | None = None

    @property
    def ready(self) -> bool:
        """Whether the grammar is compiled."""
        return self._opening.done()

    def wait(self, seconds: float) -> None:
        """Wait until it is ready, at most so long."""
        wait([self._opening], seconds)

    def apply(self, scores: torch.Tensor) -> torch.Tensor:
        """Return `scores` `[vocabulary]` with -inf for all tokens that may not come next."""
        try:
            bits = self._next_bits().result()
        except (GrammarError, RuntimeError, ValueError) as error:  # this row's alone
            self.failure = str(error)
            return torch.full_like(scores, -torch.inf)
        return scores.where(self._grammars.mask(bits), -torch.inf)

    def take(self, token_id: int) -> None:
        """Go on by a token, and begin to work out what may follow it."""
        matcher, self._bits = self._matcher, None
        matcher.consume_token(token_id)
        self.complete = matcher.is_stopped() and not matcher.is_error()
        if not self.complete:
            self._next_bits()

    @property
    def _matcher(self) -> "LLMatcher":
        return self._opening.result()

    def _next_bits(self) -> "Future[bytes]":
        if self._bits is None:
            matcher = self._matcher
            self._bits = self._grammars.threads.submit(_next_bits, matcher)
        return self._bits


def _next_bits(matcher: "LLMatcher") -> bytes:
    bits = matcher.compute_bitmask()
    require_sound(matcher)
    return bits
