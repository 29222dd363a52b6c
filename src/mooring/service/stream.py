"""The answer to one text request while it grows: engine events in, pieces of text out."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

from mooring.errors import DeadlineExceeded, EngineError, MooringError, RequestFailed
from mooring.generation import (
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Likelihood,
    PromptRead,
    Started,
    Text,
    TextToken,
    Token,
    Tokenizer,
)
from mooring.observe.record import End, SequenceRecord
from mooring.service.admission import Place
from mooring.service.alignment import Alignment, Echo, described_prompt
from mooring.service.detokenize import IncrementalText
from mooring.service.marks import with_special
from mooring.service.patience import Patience
from mooring.service.turns import Turns

EndReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text that completion `index` has grown by, and the tokens that go with it if asked for; never
    without any of it.

    `token_ids` are all that have come since the last one, where they are asked for: also those of
    text that is held back or cut off, and the token that ends the answer.
    """

    index: int
    text: str
    logprobs: tuple[TextToken, ...] = ()
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TextEnd:
    """Completion `index` has ended after `tokens` generated tokens.

    `stopped_by` is the stop string or the id of the stop token of the request that ended it.
    """

    index: int
    reason: EndReason
    tokens: int
    stopped_by: str | int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One whole answer; `prompt` is how likely its prompt is, where that was asked for.

    `stopped_by` is as in `TextEnd`.
    """

    text: str
    reason: EndReason
    tokens: int
    cached_tokens: int = 0
    logprobs: tuple[TextToken, ...] = ()
    token_ids: tuple[int, ...] = ()
    prompt: tuple[Likelihood, ...] = ()
    stopped_by: str | int | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """One sequence on its way to the engine, its place, what is noted of it, and the prompt where
    the answer begins with it.
    """

    request: GenerationRequest
    place: Place
    record: SequenceRecord
    echo: Echo | None = None


class _Sequence:
    def __init__(self, admitted: Admitted, tokenizer: Tokenizer) -> None:
        self.request = admitted.request
        self.place = admitted.place
        self.record = admitted.record
        self.echo = admitted.echo
        sampling = admitted.request.sampling
        if not sampling.skip_special_tokens:
            tokenizer = with_special(tokenizer)
        self.text = IncrementalText(
            tokenizer,
            sampling.stop,
            keep_stop=sampling.include_stop_str_in_output,
            least_tokens=sampling.min_tokens,
        )
        self.tokens_of_text = Alignment(tokenizer, len(self.echo.text) if self.echo else 0)
        self.begun = False
        self.tokens = 0
        self.cached_tokens = 0
        self.prompt: tuple[Likelihood, ...] = ()
        self.ended = False
        self._new_ids: list[int] = []

    def note(self, token_id: int) -> None:
        """Keep a token id that is to be told."""
        if self.request.needs_ids:
            self._new_ids.append(token_id)

    def take_ids(self) -> tuple[int, ...]:
        """Return the token ids that nobody was told yet."""
        taken, self._new_ids = tuple(self._new_ids), []
        return taken


class TextStream:
    """Iterates over `TextDelta` and one `TextEnd` per completion; raises if the engine fails.

    An iteration that fails or is cancelled cancels what still runs, as does closing it early.
    Completions of several prompts are numbered prompt by prompt. Fails with `DeadlineExceeded` when
    `patience` ends. Must be used in the event loop that made it.
    """

    def __init__(
        self,
        turns: Turns,
        tokenizer: Tokenizer,
        admitted: Sequence[Admitted],
        patience: Patience,
    ) -> None:
        self._turns = turns
        self._tokenizer = tokenizer
        self._sequences = [_Sequence(one, tokenizer) for one in admitted]
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._pieces = self._iterate()

    @property
    def completion_tokens(self) -> int:
        """Count the tokens generated so far, of all completions."""
        return sum(sequence.tokens for sequence in self._sequences)

    @property
    def cached_tokens(self) -> list[int]:
        """Count, by completion, the prompt tokens that the engine had read before, as known now."""
        return [sequence.cached_tokens for sequence in self._sequences]

    @property
    def buffered(self) -> int:
        """Count what the engine has sent and nobody has taken yet."""
        return self._events.qsize()

    @property
    def begun(self) -> bool:
        """Whether the engine has begun with any of it."""
        return any(sequence.begun for sequence in self._sequences)

    @property
    def waits(self) -> bool:
        """Whether all or part of it waits for its turn, and the engine has begun with none."""
        if self.begun or self.ended:
            return False
        return not all(self._turns.may_run(sequence.request.id) for sequence in self._sequences)

    @property
    def ended(self) -> bool:
        """Whether all sequences have ended, or were given up."""
        return all(sequence.ended for sequence in self._sequences)

    def submit(self) -> None:
        """Send every sequence off; on failure none is left behind."""
        self._patience.start(self._loop, self._give_up)
        for index, sequence in enumerate(self._sequences):
            try:
                self._submit(index, sequence)
            except MooringError:
                for left in self._sequences[index + 1 :]:
                    left.place.release()
                self._cancel_running()
                raise

    def _submit(self, index: int, sequence: _Sequence) -> None:
        """Let a sequence go to the engine, unless there is nothing to generate and to ask."""
        request = sequence.request
        if request.sampling.max_tokens == 0 and request.logprobs.prompt is None:
            sequence.place.release()
            self._loop.call_soon(self._receive, index, Finished("length"))
        else:
            self._turns.submit(request, self._emitter(index), sequence.place)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TextDelta | TextEnd:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """Cancel what still runs; safe to call at any time."""
        self._cancel_running()
        await self._pieces.aclose()

    def abort(self, error: EngineError) -> None:
        """Fail with `error` at the next piece; cancel what still runs."""
        for index, sequence in enumerate(self._sequences):
            if not sequence.ended:
                self._events.put_nowait((index, Failed(error)))
                self._turns.cancel(sequence.request.id)

    async def collect(self) -> list[Completion]:
        """Wait for the end and return all completions in order."""
        texts = [""] * len(self._sequences)
        tokens: list[list[TextToken]] = [[] for _ in texts]
        ids: list[list[int]] = [[] for _ in texts]
        ends: dict[int, TextEnd] = {}
        try:
            async for piece in self:
                if isinstance(piece, TextDelta):
                    texts[piece.index] += piece.text
                    tokens[piece.index] += piece.logprobs
                    ids[piece.index] += piece.token_ids
                else:
                    ends[piece.index] = piece
        finally:
            await self.aclose()
        cached = self.cached_tokens
        return [
            Completion(
                text,
                ends[index].reason,
                ends[index].tokens,
                cached[index],
                tuple(tokens[index]),
                tuple(ids[index]),
                self._sequences[index].prompt,
                ends[index].stopped_by,
            )
            for index, text in enumerate(texts)
        ]

    def _emitter(self, index: int) -> Callable[[Event], None]:
        def emit(event: Event) -> None:
            try:
                self._loop.call_soon_threadsafe(self._receive, index, event)
            except RuntimeError:  # the loop has closed: nobody waits for this answer
                return

        return emit

    def _receive(self, index: int, event: Event) -> None:
        sequence, now = self._sequences[index], self._loop.time()
        if not sequence.begun:
            sequence.begun = True
            sequence.place.begin()
        if isinstance(event, Finished | Failed):
            self._turns.end(sequence.request.id, sequence.record.tokens)
        if sequence.ended:  # what is still on its way is nobody's
            return
        if isinstance(event, Started | Finished):
            sequence.cached_tokens = max(sequence.cached_tokens, event.cached_tokens)
        if isinstance(event, Started):
            sequence.record.start(now)
            return
        if isinstance(event, Token):
            sequence.record.grow(now)
        elif isinstance(event, Text):
            sequence.record.grow(now, event.tokens)
        self._patience.note_progress(now)
        self._events.put_nowait((index, event))

    def _give_up(self, message: str) -> None:
        self.abort(DeadlineExceeded(message))

    async def _iterate(self) -> AsyncGenerator[TextDelta | TextEnd]:
        try:
            while not all(sequence.ended for sequence in self._sequences):
                index, event = await self._events.get()
                sequence = self._sequences[index]
                if sequence.ended or isinstance(event, Started):
                    continue
                if isinstance(event, Failed):
                    self._note_end(sequence, "error")
                    raise event.error
                for piece in self._advance(index, sequence, event):
                    yield piece
        finally:
            self._cancel_running()

    def _advance(
        self, index: int, sequence: _Sequence, event: PromptRead | Token | Text | Finished
    ) -> list[TextDelta | TextEnd]:
        pieces = self._say_prompt(index, sequence, event)
        if isinstance(event, PromptRead):
            return pieces
        reason: EndReason | None = None
        stopped_by: str | int | None = None
        if isinstance(event, Token):
            text, reason = self._take_token(sequence, event)
            stopped_by = None if reason is None else event.id
        elif isinstance(event, Text):
            sequence.tokens += event.tokens
            text = sequence.text.push_text(event.text)
        elif event.reason == "cancelled":
            raise RequestFailed("The engine gave this request up. Send it again.")
        else:
            text = sequence.text.finish()
            reason = event.reason
            if event.end_token is not None:
                sequence.note(event.end_token)
        if sequence.text.stopped:
            reason, stopped_by = "stop", sequence.text.stopped_by
            self._turns.cancel(sequence.request.id)
        final = reason is not None and not sequence.text.stopped
        tokens = sequence.tokens_of_text.take(text, final=final)
        ids = sequence.take_ids() if text or tokens or reason is not None else ()
        if text or tokens or ids:
            pieces.append(TextDelta(index, text, tokens, ids))
        if reason is not None:
            sequence.ended = True
            pieces.append(TextEnd(index, reason, sequence.tokens, stopped_by))
            self._note_end(sequence, reason)
        return pieces

    def _take_token(self, sequence: _Sequence, event: Token) -> tuple[str, EndReason | None]:
        """Return the text that a token releases, and "stop" where it ends the answer."""
        sequence.note(event.id)
        sampling = sequence.request.sampling
        early = sequence.tokens < sampling.min_tokens
        stops = event.id in sampling.stop_token_ids and not early
        text = ""
        if not stops or sampling.include_stop_str_in_output:
            sequence.tokens += 1
            if event.likelihood is not None:
                sequence.tokens_of_text.add(event.id, event.likelihood, sequence.text.decoded)
            text = sequence.text.push(event.id)
        if not stops:
            return text, None
        self._turns.cancel(sequence.request.id)
        return text + sequence.text.finish(), "stop"

    def _say_prompt(
        self, index: int, sequence: _Sequence, event: PromptRead | Token | Text | Finished
    ) -> list[TextDelta | TextEnd]:
        """Return the prompt, once, where the answer begins with it."""
        if isinstance(event, PromptRead):
            sequence.prompt = event.likelihoods
        echo, sequence.echo = sequence.echo, None
        if echo is None:
            return []
        tokens: tuple[TextToken, ...] = ()
        wanted = sequence.request.logprobs.answer
        if isinstance(event, PromptRead) and wanted is not None and echo.tokens:
            told = [replace(one, top=one.top[:wanted]) for one in event.likelihoods]
            tokens = described_prompt(echo, told, self._tokenizer)
        return [TextDelta(index, echo.text, tokens)] if echo.text or tokens else []

    def _note_end(self, sequence: _Sequence, end: End) -> None:
        sequence.record.tokens = sequence.tokens
        sequence.record.cached_tokens = sequence.cached_tokens
        sequence.record.finish(end)

    def _cancel_running(self) -> None:
        self._patience.stop()
        for sequence in self._sequences:
            if not sequence.ended:
                sequence.ended = True
                self._turns.cancel(sequence.request.id)
                self._note_end(sequence, "abort")
