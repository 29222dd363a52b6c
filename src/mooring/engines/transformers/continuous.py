"""Iteration-level batching: rows join and leave between any two steps of the others."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import torch

from mooring.engines.contract import CacheUse
from mooring.engines.loop import step_failed
from mooring.engines.sequence import Sequence
from mooring.engines.transformers.captured import CapturedStep
from mooring.engines.transformers.columns import Columns
from mooring.engines.transformers.forward import Forward
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.logprobs import describe_chosen
from mooring.engines.transformers.pace import Pace
from mooring.engines.transformers.prefill import Piece, Prefill
from mooring.engines.transformers.prefixes import NOTHING, Layers, PrefixStore
from mooring.engines.transformers.ragged import RaggedForward
from mooring.engines.transformers.row import Row
from mooring.engines.transformers.sampling import choose_tokens
from mooring.engines.transformers.speculation import Speculation
from mooring.engines.transformers.waiting import Waiting
from mooring.errors import EngineError

logger = logging.getLogger(__name__)

# A row joins only if the others can go on for a while, so that it is not put back at once.
_HEADROOM = 16
# What is left of a budget is not worth beginning a prompt that is longer than that.
_WORTHWHILE = 32
# How long a step waits for a grammar to be compiled where there is nothing else to do.
_PAUSE_SECONDS = 0.005

Reading = tuple[Prefill, Piece]
Result = TypeVar("Result")


class Continuous:
    """All sequences of one model: those that wait, those that are read, and those that run.

    The last ones are the rows of one batch, each at its own length, in the columns of one cache.
    What was read once is kept in `prefixes`, to be copied where it is to be read again. With
    `ragged` prompts are read in the same pass as the rows' next tokens, else in passes of their
    own. With `captured` steps that read no prompt are replayed. With `speculation` a row that is
    alone may say several tokens in one step.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        columns: Columns,
        end_token_ids: frozenset[int],
        prefixes: PrefixStore,
        speculation: Speculation | None = None,
        *,
        ragged: RaggedForward | None = None,
        captured: CapturedStep | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._loaded = loaded
        self._forward = Forward(loaded)
        self._columns = columns
        self._end_token_ids = end_token_ids
        self._prefixes = prefixes
        self._speculation = speculation
        self._ragged = ragged
        self._captured = captured
        self._pace = pace or Pace()
        self._compiling: list[Row] = []
        self._waiting = Waiting()
        self._rows: list[Row] = []
        self._prefills: list[Prefill] = []
        self._arrived = 0
        self._preemptions = 0

    @property
    def cache_use(self) -> CacheUse:
        """How full the cache is; may be asked from any thread, and is then of about now."""
        return CacheUse(self._columns.used, self._preemptions)

    def step(self, joining: list[Sequence]) -> None:
        """Give every running row its next token and read prompts; who is read joins."""
        self._queue(joining)
        self._leave()
        self._make_room()
        if self._speculation is not None and self._is_alone():
            self._decode_draft(self._rows[0], self._speculation)
            return
        pieces = self._next_pieces()
        rows, began = len(self._rows), self._pace.clock()
        if rows or pieces:
            self._pass(pieces)
            tokens = sum(piece.tokens for _, piece in pieces)
            self._pace.passed(rows, tokens, self._pace.clock() - began)

    def _queue(self, joining: list[Sequence]) -> None:
        for sequence in joining:
            self._arrived += 1
            self._compiling.append(Row(self._loaded, sequence, self._end_token_ids, self._arrived))
        idle = not (self._rows or self._waiting or self._prefills)
        if idle and self._compiling:
            self._compiling[0].wait(_PAUSE_SECONDS)
        compiling, self._compiling = self._compiling, []
        for row in compiling:
            if row.ready:
                self._waiting.add(row)
            else:
                self._compiling.append(row)

    def _leave(self) -> None:
        """Forget what has ended."""
        for place in reversed(range(len(self._rows))):
            if self._rows[place].sequence.ended:
                self._drop(place)
        self._prefills = [each for each in self._prefills if not each.row.sequence.ended]
        self._waiting.forget_ended()
        self._compiling = [row for row in self._compiling if not row.sequence.ended]

    def _drop(self, place: int) -> Row:
        """Take a row out, but keep what it has read; the last one takes its place."""
        row, last = self._rows[place], self._rows.pop()
        if row is not last:
            self._rows[place] = last
        self._keep(row, self._columns.of(place))
        self._columns.leave(place)
        return row

    def _keep(self, row: Row, layers: Layers) -> None:
        """Keep the keys and values of all but the last of a row's tokens for others."""
        if not row.failed:
            scope = row.sequence.request.cache_scope
            keep = partial(self._prefixes.keep, scope, row.ids[:-1], layers)
            attempt(keep, "No memory to keep a prefix.")

    def _pass(self, pieces: list[Reading]) -> None:
        """Run, sample, emit: one token for every row, and what follows prompts that end here."""
        if self._ragged is None or len(self._rows[:1]) + len(pieces) == 1:
            self._pass_apart(pieces)
            return
        last = [row.ids[-1] for row in self._rows]
        run = partial(self._ragged, last, self._columns, [piece for _, piece in pieces])
        found = attempt(run, "A pass failed; its rows and its prompts run apart.")
        if isinstance(found, EngineError):
            for prefill, _ in pieces:
                prefill.rewind()
            self._pass_apart(pieces)
            return
        logits, read = found
        if self._rows:
            self._sample(self._rows, logits)
            self._advance()
        for (prefill, piece), scores in zip(pieces, read, strict=True):
            self._finish(prefill, partial(prefill.take, piece, scores))

    def _pass_apart(self, pieces: list[Reading]) -> None:
        """The same in one pass for all rows and one for each piece."""
        if self._rows:
            self._decode_all()
            self._advance()
        for prefill, piece in pieces:
            self._finish(prefill, partial(prefill.run, piece))

    def _advance(self) -> None:
        self._columns.advance()
        self._leave()

    def _decode_all(self) -> None:
        """Run all rows at once, or one by one where that fails."""
        count = len(self._rows)
        logits = attempt(self._step_all, f"A model step failed; its {count} requests run alone.")
        if isinstance(logits, EngineError):
            self._decode_one_by_one()
        else:
            self._sample(self._rows, logits)

    def _step_all(self) -> torch.Tensor:
        """Run all rows: replayed, until that fails."""
        if self._captured is not None:
            last = [row.ids[-1] for row in self._rows]
            replay = partial(self._captured, last, self._columns)
            logits = attempt(replay, "Steps are replayed no more.")
            if not isinstance(logits, EngineError):
                return logits
            self._captured = None
        return self._run(range(len(self._rows)))

    def _decode_one_by_one(self) -> None:
        """Only the rows that fail alone fail."""
        for place, row in enumerate(self._rows):
            run = partial(self._run, range(place, place + 1))
            logits = attempt(run, "A model step failed; its request fails.")
            if isinstance(logits, EngineError):
                row.fail(logits)
            else:
                self._sample([row], logits)

    def _is_alone(self) -> bool:
        return len(self._rows) == 1 and not (self._waiting or self._prefills)

    def _decode_draft(self, row: Row, speculation: Speculation) -> None:
        """Run, sample, emit: the next token, and those after it that come as drafted."""
        draft = speculation.draft(row, min(row.left, self._columns.free) - 1)
        began = speculation.clock()
        run = partial(self._run, range(1), draft.tokens) if draft.tokens else self._step_all
        logits = attempt(run, "A model step failed; its request runs without a draft.")
        if isinstance(logits, EngineError):
            self._decode_one_by_one()
            self._columns.advance()
            return
        kept = self._verify(row, draft.tokens, logits)
        self._columns.advance(kept)
        speculation.learn(row, draft, kept, speculation.clock() - began)

    def _verify(self, row: Row, drafted: list[int], logits: torch.Tensor) -> int:
        """Choose tokens as long as they are as drafted, and one more; return their number."""
        chosen = 0
        for place in range(len(logits)):
            self._sample([row], logits[place : place + 1])
            chosen += 1
            gone = row.sequence.ended or row.sequence.cancelled
            if gone or row.ids[-1:] != drafted[place : place + 1]:
                break
        return chosen

    def _run(self, places: range, drafted: Iterable[int] = ()) -> torch.Tensor:
        """Return the logits after the last token of each row and, of one row, after its draft."""
        last = [[self._rows[place].ids[-1], *drafted] for place in places]
        ids = torch.tensor(last, device=self._forward.device)
        count = ids.shape[1]
        mask, positions = self._columns.show(places, count)
        return self._forward(ids, mask, positions, self._columns, count)

    def _sample(self, rows: list[Row], logits: torch.Tensor) -> None:
        tokens = choose_tokens(logits, [row.sampler for row in rows])
        wanted = [row.sequence.request.logprobs.answer for row in rows]
        likelihoods = describe_chosen(logits, tokens, wanted)
        for row, token_id, likelihood in zip(rows, tokens, likelihoods, strict=True):
            row.take(token_id, self._end_token_ids, likelihood)

    def _make_room(self) -> None:
        """Make sure that every row can go on: if need be, put back the youngest."""
        if not self._rows:
            return
        while not self._fits(self._columns.width + 1):
            self._put_back_the_youngest()
        failure = f"No memory for a step; its {len(self._rows)} requests fail."
        room = attempt(self._columns.make_room, failure)
        if isinstance(room, EngineError):
            for row in self._rows:
                row.fail(room)
            self._free()

    def _fits(self, width: int) -> bool:
        """Say whether the rows, and those that are on their way, fit with so many columns."""
        lengths = [each.length + 1 for each in self._prefills]
        return self._columns.fits(len(self._rows) + len(lengths), max(width, *lengths, 0))

    def _put_back_the_youngest(self) -> None:
        self._preemptions += 1
        if self._prefills:
            self._waiting.put_back(self._prefills.pop().row)
        else:
            youngest = max(range(len(self._rows)), key=lambda place: self._rows[place].number)
            self._waiting.put_back(self._drop(youngest))

    def _next_pieces(self) -> list[Reading]:
        """Return what is to be read in this step: of prompts that have begun, then of others."""
        left = self._pace.budget(len(self._rows))
        pieces: list[Reading] = []
        for prefill in self._prefills:
            if left:
                pieces.append((prefill, prefill.next_piece(left)))
                left -= pieces[-1][1].tokens
        while self._may_begin(left):
            prefill = self._begin(self._waiting.take())
            self._prefills.append(prefill)
            pieces.append((prefill, prefill.next_piece(left)))
            left -= pieces[-1][1].tokens
        self._waiting.read(sum(piece.tokens for _, piece in pieces))
        return pieces

    def _may_begin(self, left: int) -> bool:
        """Say whether the first that waits is to be read now, with so many tokens left to read."""
        first = self._waiting.first
        if first is None or not self._has_room(first):
            return False
        if self._prefills and left < min(len(first.ids), _WORTHWHILE):
            return False
        scope = first.sequence.request.cache_scope
        others = [each.row for each in self._prefills]
        same = [row.ids for row in others if row.sequence.request.cache_scope == scope]
        return not self._prefixes.promises(scope, first.ids[: first.skippable], same)

    def _begin(self, row: Row) -> Prefill:
        """Begin to read a row's tokens after those that were read before and may be skipped."""
        request, ids = row.sequence.request, row.ids[: row.skippable]
        find = partial(self._prefixes.find, request.cache_scope, ids)
        found = attempt(find, "No memory to copy a prefix; it is read again.")
        prefix = NOTHING if isinstance(found, EngineError) else found
        if not row.begun:
            row.sequence.cached_tokens = min(prefix.length, len(request.prompt_ids))
        row.sequence.start()
        return Prefill(self._forward, row, prefix)

    def _has_room(self, row: Row) -> bool:
        lengths = [each.length for each in self._prefills]
        width = max(self._columns.width, len(row.ids), *lengths) + min(row.left, _HEADROOM)
        return self._columns.fits(len(self._rows) + len(lengths) + 1, width)

    def _finish(self, prefill: Prefill, take: Callable[[], None]) -> None:
        """Take what a piece gave: a failure is its request's alone, and who is read joins."""
        failed = attempt(take, "A prompt failed in the model; its request fails.")
        if prefill not in self._prefills:  # its request has ended meanwhile
            return
        if isinstance(failed, EngineError):
            self._prefills.remove(prefill)
            prefill.row.fail(failed)
        elif prefill.logits is not None:
            self._prefills.remove(prefill)
            if prefill.row.sequence.owes_prompt:
                prefill.row.sequence.read_prompt(prefill.likelihoods)
            if not prefill.row.sequence.ended:
                self._sample([prefill.row], prefill.logits)
            if prefill.row.sequence.ended or self._join(prefill):
                self._keep(prefill.row, prefill.layers)

    def _join(self, prefill: Prefill) -> bool:
        """Make it a row and return True, or fail it for want of memory; then others begin again."""
        join = partial(self._columns.join, prefill.cache, prefill.length)
        place = attempt(join, "No memory for one more request; it fails, the others begin again.")
        if isinstance(place, EngineError):
            prefill.row.fail(place)
            for row in self._rows:
                self._waiting.put_back(row)
            self._free()
        else:
            self._rows.append(prefill.row)
        return not isinstance(place, EngineError)

    def _free(self) -> None:
        """Give up all rows and what was kept."""
        self._rows.clear()
        self._prefixes.clear()
        self._columns.clear()


def attempt(action: Callable[[], Result], failure: str) -> Result | EngineError:
    """Return what `action` returns, or what its request is told if it raises; the log has more."""
    try:
        return action()
    except (
        Exception
    ) as error:  # a model's own code, and a device without memory, may raise anything
        logger.exception(failure)
        return step_failed(error)
