"""One request's life, whichever door it came through: check, render, tokenize, admit, generate."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import count
from typing import Any
from weakref import WeakSet

from mooring.engines.contract import Capabilities, Engine, Load
from mooring.errors import (
    DeadlineExceeded,
    EngineError,
    InvalidInput,
    InvalidParameter,
)
from mooring.generation import (
    NO_LOGPROBS,
    Conversation,
    GenerationRequest,
    Grammar,
    Likelihood,
    LogprobsWanted,
    PromptInput,
    SamplingParams,
    TextRequest,
    TextToken,
    Tokenizer,
)
from mooring.observe.record import RequestRecord
from mooring.service.admission import Activity, Admission, Bounds, Permit
from mooring.service.alignment import Echo, described_prompt, echo_of
from mooring.service.bad_words import banned_sequences
from mooring.service.marks import special_marks, with_marks
from mooring.service.patience import Patience
from mooring.service.prompts import PromptReader, ReadPrompt
from mooring.service.stream import Admitted, Completion, TextStream
from mooring.service.turns import Turns
from mooring.settings import ServiceLimits
from mooring.spec.prompt import PromptFormat
from mooring.spec.tools import CallFormat

# Begins to check a grammar; the result raises `InvalidParameter` if it cannot be used.
CheckGrammar = Callable[[Grammar], "Future[None]"]


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request that can be generated: prompt token ids, and `max_tokens` that fit the context.

    With an `echo` the answer begins with it.
    """

    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    grammar: Grammar | None = None
    marks: tuple[str, ...] = ()
    logprobs: LogprobsWanted = NO_LOGPROBS
    echo: Echo | None = None
    needs_ids: bool = False
    cache_salt: str = ""
    banned: tuple[tuple[int, ...], ...] = ()


class TextService:
    """Answers text requests with one engine. Every door of Mooring ends here."""

    def __init__(
        self,
        *,
        engine: Engine,
        capabilities: Capabilities,
        tokenizer: Tokenizer,
        prompt_format: PromptFormat,
        defaults: SamplingParams,
        limits: ServiceLimits | None = None,
        check_grammar: CheckGrammar | None = None,
    ) -> None:
        self.capabilities = capabilities
        self.limits = limits or ServiceLimits()
        self._engine = engine
        self._tokenizer = tokenizer
        self._prompt_format = prompt_format
        self._reader = PromptReader(self.capabilities, tokenizer, prompt_format, self.limits)
        self._defaults = defaults
        self._ids = count()
        running = capabilities.max_running
        self._turns = Turns(engine, running)
        self._grammar_check = check_grammar
        self._admission = Admission(
            Bounds(running, self.limits.max_waiting, self.limits.max_waiting_tokens),
            yield_to=self._turns.yield_to,
        )
        self._streams: WeakSet[TextStream] = WeakSet()
        self._ending: EngineError | None = None
        self._aborted: EngineError | None = None

    @property
    def call_format(self) -> CallFormat | None:
        """How the model writes calls of tools, None where that cannot be told."""
        return self._prompt_format.call_format

    @property
    def knows_thoughts(self) -> bool:
        """Whether the model may think before it answers, as far as its chat template tells."""
        return self._prompt_format.knows_thoughts

    def opens_thought(self, conversation: Conversation) -> bool:
        """Whether the answer to a conversation begins within a thought."""
        return self._prompt_format.opens_thought(conversation)

    def special(self, marks: Sequence[str]) -> frozenset[str]:
        """Return those of `marks` that the model's tokenizer counts as special."""
        return frozenset(special_marks(self._tokenizer, marks).values())

    @property
    def activity(self) -> Activity:
        """What the service holds now."""
        return self._admission.activity

    @property
    def load(self) -> Load:
        """What the engine holds now, and what waits for it, there or here."""
        load = self._engine.load()
        return replace(load, waiting=load.waiting + self._turns.waiting)

    @property
    def buffered(self) -> int:
        """Count what the engine has sent and no reader has taken yet."""
        return sum(stream.buffered for stream in list(self._streams) if not stream.ended)

    def sampling(self, values: Mapping[str, Any]) -> SamplingParams:
        """Return the model's defaults with `values` set; raise `InvalidParameter` by name."""
        sampling = self._defaults.update(values)
        self._check_limits(sampling)
        limit = self.capabilities.context_length
        asked = sampling.max_tokens
        if asked is not None and asked > limit and asked != self._defaults.max_tokens:
            raise InvalidParameter(
                f"`max_tokens` must be <= {limit}, the model's context. Given: {asked}.",
                param="max_tokens",
            )
        return sampling

    def _check_limits(self, sampling: SamplingParams) -> None:
        for name, limit, given in (
            ("n", self.limits.max_n, sampling.n),
            ("stop", self.limits.max_stop, len(sampling.stop)),
        ):
            if given > limit:
                what = f"`{name}`" if name == "n" else f"The number of `{name}` strings"
                raise InvalidParameter(f"{what} must be <= {limit}. Given: {given}.", param=name)

    def render(self, prompt: PromptInput) -> str | None:
        """Return the exact text the model will see, or None for token ids."""
        return self._reader.render(prompt)

    async def prepare(self, request: TextRequest) -> PreparedRequest:
        """Render and tokenize off the event loop; raise `InvalidInput` if it cannot be answered."""
        self.capabilities.check(request.sampling, request.grammar, request.logprobs)
        if request.needs_ids:
            self.capabilities.check_tells_ids()
        await self._check_grammar(request)
        read = await self.read(request.prompt, add_special_tokens=request.add_special_tokens)
        read = self._reader.shortened(read, request)
        sampling = self._reader.fitted(len(read.token_ids), request.sampling)
        echo = await asyncio.to_thread(self._echo, read, request) if request.echo else None
        return PreparedRequest(
            read.token_ids,
            sampling,
            request.grammar,
            request.marks,
            request.logprobs,
            echo,
            request.needs_ids,
            request.cache_salt,
            await asyncio.to_thread(banned_sequences, sampling.bad_words, self._tokenizer),
        )

    async def read(
        self, prompt: PromptInput, *, add_special_tokens: bool | None = None
    ) -> ReadPrompt:
        """As `tokenized`, what is to be answered; raise `InvalidPrompt` also for what is empty."""
        return await asyncio.to_thread(self._reader.read, prompt, add_special_tokens)

    async def tokenized(
        self, prompt: PromptInput, *, add_special_tokens: bool | None = None
    ) -> ReadPrompt:
        """Render and tokenize off the event loop; raise `InvalidPrompt` where that is impossible.

        `add_special_tokens` says whether the tokenizer adds its own, None for what answers do.
        """
        return await asyncio.to_thread(self._reader.tokenized, prompt, add_special_tokens)

    def token_bytes(self, token_ids: Sequence[int]) -> list[bytes]:
        """Return the bytes that each token adds to a text; raise `InvalidPrompt` for no token."""
        return [self._tokenizer.token_bytes(id) for id in self._reader.checked(tuple(token_ids))]

    def told_prompt(
        self, token_ids: Sequence[int], likelihoods: Sequence[Likelihood]
    ) -> tuple[TextToken, ...]:
        """Return the tokens of a prompt with how likely they are; the first have no likelihood."""
        prompt = echo_of("", token_ids, self._tokenizer)
        return described_prompt(prompt, likelihoods, self._tokenizer)

    async def text_of(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones too; raise `InvalidPrompt` for no token."""
        ids = self._reader.checked(tuple(token_ids), "tokens")
        return await asyncio.to_thread(self._tokenizer.decode, ids, skip_special_tokens=False)

    async def _check_grammar(self, request: TextRequest) -> None:
        if request.grammar is not None and self._grammar_check is not None:
            await asyncio.wrap_future(self._grammar_check(request.grammar))

    async def prepare_all(self, requests: Sequence[TextRequest]) -> list[PreparedRequest]:
        """Prepare the rows of one call in order; the error of a row names it, counted from 0."""
        if len(requests) > self.limits.max_rows:
            raise InvalidInput(
                f"One call takes at most {self.limits.max_rows} prompts. Given: {len(requests)}. "
                "Send them in several calls."
            )
        if len(requests) == 1:
            return [await self.prepare(requests[0])]
        prepared = []
        for row, request in enumerate(requests):
            try:
                prepared.append(await self.prepare(request))
            except InvalidInput as error:
                raise type(error)(f"row {row}: {error.message}", param=error.param) from None
        return prepared

    def start(self, prepared: PreparedRequest) -> TextStream:
        """Begin to generate; raise `ServerBusy` if the service holds all it may."""
        return self.start_all([prepared])

    def start_all(
        self, prepared: Sequence[PreparedRequest], record: RequestRecord | None = None
    ) -> TextStream:
        """Begin to generate several requests as one stream; all or none get in.

        What waits, waits in turns with that of other keys. What happens to each sequence is noted
        in `record`.
        """
        told = record or RequestRecord()
        places = sum(request.sampling.n for request in prepared)
        permit = self._admit(places, prepared, told)
        try:
            return self._begin(prepared, permit, told)
        finally:
            permit.close()

    async def complete_all(
        self, prepared: Sequence[PreparedRequest], record: RequestRecord | None = None
    ) -> list[list[Completion]]:
        """Answer many requests in order, never more at once than the engine runs side by side.

        Fails as a whole with the first error; what still runs is cancelled. What waits, waits in
        turns with that of other keys. What happens to each sequence is noted in `record`.
        """
        told = record or RequestRecord()
        widest = max((request.sampling.n for request in prepared), default=1)
        side_by_side = min(max(1, self.capabilities.max_running // widest), len(prepared))
        permit = self._admit(side_by_side * widest, prepared[:side_by_side], told)
        slots = asyncio.Semaphore(side_by_side)

        async def complete(request: PreparedRequest) -> list[Completion]:
            async with slots:
                return await self._begin([request], permit, told).collect()

        try:
            async with (
                asyncio.timeout(self.limits.request_seconds),
                asyncio.TaskGroup() as group,
            ):
                tasks = [group.create_task(complete(request)) for request in prepared]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        except TimeoutError:
            seconds = self.limits.request_seconds
            raise DeadlineExceeded(f"The answer must be whole within {seconds:g} s.") from None
        finally:
            permit.close()
        return [task.result() for task in tasks]

    def refuse_waiting(self, error: EngineError) -> None:
        """End with `error` what waits for its turn, and refuse what would have to wait later."""
        self._ending = error
        for stream in [stream for stream in self._streams if stream.waits]:
            stream.abort(error)

    def abort(self, error: EngineError) -> None:
        """End what runs, and whatever begins later, with `error`."""
        self._aborted = error
        for stream in list(self._streams):
            stream.abort(error)

    def _admit(
        self, places: int, prepared: Sequence[PreparedRequest], record: RequestRecord
    ) -> Permit:
        if self._aborted is not None:
            raise self._aborted
        would_wait = self.activity.sequences + places > self.capabilities.max_running
        if self._ending is not None and would_wait:
            raise self._ending
        tokens = sum(len(request.prompt_ids) * request.sampling.n for request in prepared)
        return self._admission.admit(places, tokens, caller=record.key or "")

    def _begin(
        self, prepared: Sequence[PreparedRequest], permit: Permit, record: RequestRecord
    ) -> TextStream:
        if self._aborted is not None:
            raise self._aborted
        requests = tuple(
            GenerationRequest(
                id=f"sequence-{next(self._ids)}",
                prompt_ids=request.prompt_ids,
                sampling=_with_seed(request.sampling, index),
                grammar=request.grammar,
                cache_scope=_cache_scope(permit.caller, request.cache_salt),
                logprobs=request.logprobs,
                needs_ids=request.needs_ids,
                banned=request.banned,
            )
            for request in prepared
            for index in range(request.sampling.n)
        )
        echoes = [request.echo for request in prepared for _ in range(request.sampling.n)]
        admitted = []
        for request, echo in zip(requests, echoes, strict=True):
            tokens = len(request.prompt_ids)
            noted = record.sequence(tokens, request.sampling)
            admitted.append(Admitted(request, permit.take(tokens), noted, echo))
        tokenizer = with_marks(self._tokenizer, prepared[0].marks)
        stream = TextStream(self._turns, tokenizer, admitted, Patience(self.limits))
        self._streams.add(stream)
        stream.submit()
        return stream

    def _echo(self, read: ReadPrompt, request: TextRequest) -> Echo:
        if isinstance(request.prompt, Conversation):
            last = request.prompt.messages[-1]
            return Echo(last.content if last.role == "assistant" else "")
        text = self._tokenizer.decode(read.token_ids) if read.text is None else read.text
        if request.logprobs.prompt is None or request.logprobs.answer is None:
            return Echo(text)
        return echo_of(text, read.token_ids, self._tokenizer)


def _cache_scope(caller: str, salt: str) -> str:
    """Tell what is read for one caller, and with one salt, from all other."""
    return f"{caller}\0{salt}" if salt else caller


def _with_seed(sampling: SamplingParams, index: int) -> SamplingParams:
    """Give each completion of a seeded request a seed of its own."""
    return replace(sampling, seed=None if sampling.seed is None else sampling.seed + index)
