"""Iteration-level batching: rows join and leave between any two steps of the others."""

import logging
from collections import deque

import torch

from mooring.engines.loop import step_failed
from mooring.engines.sequence import Sequence
from mooring.engines.transformers.columns import Columns
from mooring.engines.transformers.forward import Forward
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.prefill import Prefill
from mooring.engines.transformers.row import Row
from mooring.engines.transformers.sampling import choose_tokens
from mooring.generation import Failed

logger = logging.getLogger(__name__)

# Between two steps of the running rows: enough for full speed, few enough not to stall them.
PREFILL_TOKENS = 512
# A row joins only if the others can go on for a while, so that it is not put back at once.
_HEADROOM = 16


class Continuous:
    """All sequences of one model: those that wait, the one that is prefilled, and those that run.

    The last ones are the rows of one batch, each at its own length, in the columns of one cache.
    """

    def __init__(
        self, loaded: LoadedModel, columns: Columns, end_token_ids: frozenset[int]
    ) -> None:
        self._loaded = loaded
        self._forward = Forward(loaded)
        self._columns = columns
        self._end_token_ids = end_token_ids
        self._waiting: deque[Row] = deque()
        self._rows: list[Row] = []
        self._prefill: Prefill | None = None
        self._arrived = 0

    def step(self, joining: list[Sequence]) -> None:
        """Give every running row its next token, then let waiting ones join."""
        self._queue(joining)
        self._leave()
        self._decode()
        self._leave()
        self._let_in()

    def _queue(self, joining: list[Sequence]) -> None:
        for sequence in joining:
            self._arrived += 1
            self._waiting.append(Row(self._loaded, sequence, self._arrived))

    def _leave(self) -> None:
        """Forget what has ended."""
        for place in reversed(range(len(self._rows))):
            if self._rows[place].sequence.ended:
                self._drop(place)
        if self._prefill is not None and self._prefill.row.sequence.ended:
            self._prefill = None
        self._waiting = deque(row for row in self._waiting if not row.sequence.ended)

    def _drop(self, place: int) -> Row:
        """Take a row out; the last one takes its place."""
        row, last = self._rows[place], self._rows.pop()
        if row is not last:
            self._rows[place] = last
        self._columns.leave(place)
        return row

    def _decode(self) -> None:
        """Run, sample, emit: one token for every row."""
        self._make_room()
        if not self._rows:
            return
        try:
            logits = self._run(range(len(self._rows)))
        except Exception:  # a model's own code may raise anything
            logger.exception("A model step failed; its %d requests run alone.", len(self._rows))
            self._decode_one_by_one()
        else:
            self._sample(self._rows, logits)
        self._columns.advance()

    def _decode_one_by_one(self) -> None:
        for place, row in enumerate(self._rows):
            try:
                logits = self._run(range(place, place + 1))
            except Exception:  # only the rows that fail alone fail
                logger.exception("A model step failed; its request fails.")
                row.sequence.end(Failed(step_failed()))
            else:
                self._sample([row], logits)

    def _run(self, places: range) -> torch.Tensor:
        mask, positions = self._columns.show(places)
        last = [[self._rows[place].ids[-1]] for place in places]
        ids = torch.tensor(last, device=self._forward.device)
        return self._forward(ids, mask, positions, self._columns)

    def _sample(self, rows: list[Row], logits: torch.Tensor) -> None:
        tokens = choose_tokens(logits, [row.sampler for row in rows])
        for row, token_id in zip(rows, tokens, strict=True):
            row.take(token_id, self._end_token_ids)

    def _make_room(self) -> None:
        """Make sure that every row can go on: if need be, put back the youngest."""
        while not self._fits(self._columns.width + 1):
            self._put_back_the_youngest()
        try:
            self._columns.make_room()
        except Exception:  # the device may refuse more memory in many ways
            logger.exception("No memory for a step; its %d requests fail.", len(self._rows))
            for row in self._rows:
                row.sequence.end(Failed(step_failed()))
            self._rows.clear()
            self._columns.clear()

    def _fits(self, width: int) -> bool:
        """Say whether the rows, and the one that is on its way, fit with so many columns."""
        if self._prefill is None:
            return self._columns.fits(len(self._rows), width)
        return self._columns.fits(len(self._rows) + 1, max(width, self._prefill.length + 1))

    def _put_back_the_youngest(self) -> None:
        if self._prefill is not None:
            self._waiting.appendleft(self._prefill.row)
            self._prefill = None
        else:
            youngest = max(range(len(self._rows)), key=lambda place: self._rows[place].number)
            self._waiting.appendleft(self._drop(youngest))

    def _let_in(self) -> None:
        """Prefill waiting rows within this step's allowance; each that is done joins."""
        allowance = PREFILL_TOKENS
        while allowance > 0 and (prefill := self._next_prefill()) is not None:
            allowance -= self._run_prefill(prefill, allowance)

    def _next_prefill(self) -> Prefill | None:
        if self._prefill is None and self._waiting and self._has_room(self._waiting[0]):
            self._prefill = Prefill(self._forward, self._waiting.popleft())
        return self._prefill

    def _has_room(self, row: Row) -> bool:
        width = max(self._columns.width, len(row.ids)) + min(row.left, _HEADROOM)
        return self._columns.fits(len(self._rows) + 1, width)

    def _run_prefill(self, prefill: Prefill, allowance: int) -> int:
        """Run one piece and return its number of tokens; a failure is its request's alone."""
        try:
            tokens = prefill.run(allowance)
        except Exception:  # a model's own code may raise anything
            logger.exception("A prompt failed in the model; its request fails.")
            prefill.row.sequence.end(Failed(step_failed()))
            self._prefill = None
            return allowance
        if prefill.logits is not None:
            self._prefill = None
            self._sample([prefill.row], prefill.logits)
            if not prefill.row.sequence.ended:
                self._join(prefill)
        return tokens

    def _join(self, prefill: Prefill) -> None:
        try:
            self._columns.join(prefill.cache, prefill.length)
        except Exception:  # the device may refuse more memory in many ways
            logger.exception("No memory for one more request; it fails, the others begin again.")
            prefill.row.sequence.end(Failed(step_failed()))
            self._waiting.extendleft(sorted(self._rows, key=lambda row: -row.number))
            self._rows.clear()
            self._columns.clear()
        else:
            self._rows.append(prefill.row)
