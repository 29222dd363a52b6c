"""Keeps the tokens of a row to a grammar: which may come next, and whether it is complete.

What may come next is worked out in threads of their own, while the model makes its step.
"""

import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
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
# Waking a thread takes longer than most masks do.
_MASKS_OF_A_THREAD = 8


class Grammars:
    """Makes constraints for one model, with its tokenizer as `tokenizer.json` has it.

    `vocabulary_size` is that of the logits. Raises `ValueError` for a
    tokenizer that the library cannot take.
    """

    def __init__(
        self,
        tokenizer: Path,
        end_token_ids: Collection[int],
        vocabulary_size: int,
    ) -> None:
        from llguidance import LLTokenizer

        ends = sorted(end_token_ids) or None
        self._tokenizer = LLTokenizer(tokenizer.read_text("utf-8"), eos_token=ends)
        self._vocabulary_size = vocabulary_size
        self._compiling = Lock()
        self._compiled = lru_cache(_COMPILED)(self._compile)
        self._threads = ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), "masks")

    def constrain(self, request: GenerationRequest) -> "Constraint | None":
        """Return what keeps a request to its grammar, after the tokens it has; compiled later."""
        if request.grammar is None:
            return None
        return Constraint(self, deeply(partial(self._begin, request.grammar, request)))

    def begin_masks(self, matchers: "Sequence[LLMatcher]") -> "Future[torch.Tensor]":
        """Begin to make `masks`, in another thread."""
        return self._threads.submit(self.masks, matchers)

    def masks(self, matchers: "Sequence[LLMatcher]") -> torch.Tensor:
        """Return which tokens may come next, `[matchers, vocabulary]`, on the CPU."""
        rows = [np.frombuffer(matcher.compute_bitmask(), np.uint8) for matcher in matchers]
        # Tokens that the tokenizer does not know may not come; those without logits are cut off.
        allowed = np.unpackbits(
            np.stack(rows), axis=1, count=self._vocabulary_size, bitorder="little"
        )
        return torch.from_numpy(allowed).view(torch.bool)

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
        self.grammars = grammars
        self._opening = opening
        self._masks: tuple[Future[torch.Tensor], int] | None = None
        self.complete = False
        self.failure: str | None = None

    @property
    def ready(self) -> bool:
        """Whether the grammar is compiled."""
        return self._opening.done()

    @property
    def matcher(self) -> "LLMatcher":
        """What knows the place; raises `GrammarError` if the grammar cannot be used."""
        return self._opening.result()

    def wait(self, seconds: float) -> None:
        """Wait until it is ready, at most so long."""
        wait([self._opening], seconds)

    def apply(self, scores: torch.Tensor) -> torch.Tensor:
        """Return `scores` `[vocabulary]` with -inf for all tokens that may not come next."""
        try:
            mask = self._mask()
        except (GrammarError, RuntimeError, ValueError) as error:  # this row's alone
            self.failure = str(error)
            return torch.full_like(scores, -torch.inf)
        return scores.where(mask.to(scores.device), -torch.inf)

    def take(self, token_id: int) -> None:
        """Go on by a token."""
        self.matcher.consume_token(token_id)
        self.complete = self.matcher.is_stopped() and not self.matcher.is_error()
        self._masks = None

    def expect(self, masks: "Future[torch.Tensor]", place: int) -> None:
        """Take what may come next from that place of `masks`, which are on their way."""
        self._masks = masks, place

    def _mask(self) -> torch.Tensor:
        if self._masks is None:
            mask = self.grammars.masks([self.matcher])[0]
        else:
            masks, place = self._masks
            mask = masks.result()[place]
        require_sound(self.matcher)
        return mask


def begin_masks(constraints: Iterable[Constraint]) -> None:
    """Begin to work out what may come next in each, all of one model; not where nothing can."""
    going_on = [constraint for constraint in constraints if not constraint.complete]
    for begin in range(0, len(going_on), _MASKS_OF_A_THREAD):
        some = going_on[begin : begin + _MASKS_OF_A_THREAD]
        masks = some[0].grammars.begin_masks([constraint.matcher for constraint in some])
        for place, constraint in enumerate(some):
            constraint.expect(masks, place)
