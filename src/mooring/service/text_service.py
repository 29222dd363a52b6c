"""One request's life, whichever door it came through: check, render, tokenize, admit, generate."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from mooring.engines.contract import Capabilities, Engine
from mooring.errors import ContextExceeded, InvalidParameter, InvalidPrompt, ServerBusy
from mooring.generation import (
    Conversation,
    GenerationRequest,
    Instruction,
    PromptInput,
    RawText,
    SamplingParams,
    TextRequest,
    TokenIds,
    Tokenizer,
)
from mooring.service.stream import Completion, TextStream
from mooring.settings import ServiceLimits
from mooring.spec.prompt import PromptFormat


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request that can be generated: prompt token ids, and `max_tokens` that fit the context."""

    prompt_ids: tuple[int, ...]
    sampling: SamplingParams


@dataclass(frozen=True, slots=True)
class Activity:
    """Sequences now in the engine, and how many it may hold."""

    sequences: int
    limit: int


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
    ) -> None:
        self.capabilities = capabilities
        self.limits = limits or ServiceLimits()
        self._engine = engine
        self._tokenizer = tokenizer
        self._prompt_format = prompt_format
        self._defaults = defaults
        self._ids = count()
        self._active = 0

    @property
    def activity(self) -> Activity:
        """What the service holds now."""
        return Activity(self._active, self.capabilities.max_running + self.limits.max_waiting)

    def sampling(self, values: Mapping[str, Any]) -> SamplingParams:
        """Return the model's defaults with `values` set; raise `InvalidParameter` by name."""
        sampling = self._defaults.update(values)
        limit = self.capabilities.context_length
        asked = sampling.max_tokens
        if asked is not None and asked > limit and asked != self._defaults.max_tokens:
            raise InvalidParameter(
                f"`max_tokens` must be <= {limit}, the model's context. Given: {asked}.",
                param="max_tokens",
            )
        return sampling

    def render(self, prompt: PromptInput) -> str | None:
        """Return the exact text the model will see, or None for token ids."""
        match prompt:
            case Instruction(text):
                _check_text(text)
                return self._prompt_format.render_instruction(text)
            case Conversation(messages):
                return self._prompt_format.render_messages(
                    [{"role": m.role, "content": m.content} for m in messages]
                )
            case RawText(text):
                _check_text(text)
                return text
            case TokenIds():
                return None

    async def prepare(self, request: TextRequest) -> PreparedRequest:
        """Render and tokenize off the event loop; raise `InvalidInput` if it cannot be answered."""
        prompt_ids = await asyncio.to_thread(self._tokenize, request.prompt)
        return PreparedRequest(prompt_ids, self._fit_context(len(prompt_ids), request.sampling))

    def start(self, prepared: PreparedRequest) -> TextStream:
        """Begin to generate; raise `ServerBusy` if the service holds all it may."""
        sampling = prepared.sampling
        activity = self.activity
        if activity.sequences + sampling.n > activity.limit:
            raise ServerBusy(
                f"The server holds at most {activity.limit} sequences at once. Held: "
                f"{activity.sequences}, asked for {sampling.n} more. Try again shortly."
            )
        requests = tuple(
            GenerationRequest(
                id=f"sequence-{next(self._ids)}",
                prompt_ids=prepared.prompt_ids,
                sampling=replace(
                    sampling, seed=None if sampling.seed is None else sampling.seed + index
                ),
            )
            for index in range(sampling.n)
        )
        stream = TextStream(self._engine, self._tokenizer, requests, self._release)
        self._active += len(requests)
        stream.submit()
        return stream

    async def complete_all(self, prepared: Sequence[PreparedRequest]) -> list[list[Completion]]:
        """Answer many requests in order, never more at once than the engine runs side by side.

        Fails as a whole with the first error; what still runs is cancelled.
        """
        widest = max((request.sampling.n for request in prepared), default=1)
        slots = asyncio.Semaphore(max(1, self.capabilities.max_running // widest))

        async def complete(request: PreparedRequest) -> list[Completion]:
            async with slots:
                return await self.start(request).collect()

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(complete(request)) for request in prepared]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    def _release(self) -> None:
        self._active -= 1

    def _tokenize(self, prompt: PromptInput) -> tuple[int, ...]:
        text = self.render(prompt)
        if text is None:
            assert isinstance(prompt, TokenIds)
            ids = self._check_ids(prompt.ids)
        else:
            add = isinstance(prompt, RawText) or self._prompt_format.adds_special_tokens
            ids = tuple(self._tokenizer.encode(text, add_special_tokens=add))
        if not ids:
            raise InvalidPrompt("The prompt must have at least one token. Given: none.")
        return ids

    def _check_ids(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        limit = self.capabilities.vocabulary_size
        for token in ids:
            if not 0 <= token < limit:
                raise InvalidPrompt(
                    f"Prompt token ids must be >= 0 and < {limit}. Given: {token}.", param="prompt"
                )
        return ids

    def _fit_context(self, prompt_tokens: int, sampling: SamplingParams) -> SamplingParams:
        context = self.capabilities.context_length
        room = context - prompt_tokens
        if room < 1:
            raise ContextExceeded(
                f"The prompt must have fewer than {context} tokens, the model's context. "
                f"Given: {prompt_tokens}. Shorten it."
            )
        return replace(sampling, max_tokens=min(room, sampling.max_tokens or room))


def _check_text(text: str) -> None:
    if not text:
        raise InvalidPrompt("`prompt` must not be empty.", param="prompt")
