"""OpenAI request bodies: every field honoured, accepted as harmless, or refused by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from mooring.errors import InvalidParameter, InvalidPrompt, UnsupportedParameter
from mooring.generation import SAMPLING_FIELDS, PromptInput, RawText, TokenIds
from mooring.protocol.body import StrictBody, parse_body
from mooring.protocol.call import Call
from mooring.protocol.rows import parse_messages

_SAMPLING_NAMES = frozenset(field.name for field in SAMPLING_FIELDS)


@dataclass(frozen=True, slots=True)
class OpenAICall(Call):
    """A call that names its model and says whether to stream."""

    model: str
    stream: bool
    include_usage: bool


class _StreamOptions(StrictBody):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Common(StrictBody):
    """What both bodies share; sampling values are checked by the service, by their own table."""

    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    user: str | None = None

    max_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    min_p: Any = None
    repetition_penalty: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    seed: Any = None
    stop: Any = None
    logit_bias: Any = None
    ignore_eos: Any = None
    n: Any = None

    def parameters(self) -> dict[str, Any]:
        """Return the sampling parameters that the client set."""
        return {
            name: value
            for name in self.model_fields_set & _SAMPLING_NAMES
            if (value := getattr(self, name)) is not None
        }

    def call(self, prompts: tuple[PromptInput, ...], parameters: Mapping[str, Any]) -> OpenAICall:
        """Return what is asked, with the stream options checked."""
        options = self.stream_options
        if options is not None and not self.stream:
            raise InvalidParameter(
                "`stream_options` may only be given with `stream` = true.", param="stream_options"
            )
        if options is not None and options.include_obfuscation:
            raise _unsupported("stream_options.include_obfuscation", off=(False,))
        return OpenAICall(
            prompts=prompts,
            parameters=parameters,
            model=self.model,
            stream=bool(self.stream),
            include_usage=bool(options and options.include_usage),
        )


class _ChatBody(_Common):
    messages: Any = Field()
    max_completion_tokens: Any = None

    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None

    audio: Any = None
    function_call: Any = None
    functions: Any = None
    logprobs: Any = None
    modalities: Any = None
    moderation: Any = None
    prediction: Any = None
    reasoning_effort: Any = None
    response_format: Any = None
    service_tier: Any = None
    store: Any = None
    tool_choice: Any = None
    tools: Any = None
    top_logprobs: Any = None
    verbosity: Any = None
    web_search_options: Any = None


class _CompletionBody(_Common):
    prompt: Any = Field()
    best_of: Any = None

    echo: Any = None
    logprobs: Any = None
    suffix: Any = None


# Fields that ask for what is not offered, unless they have one of these values.
_CHAT_OFF: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("none",),
    "functions": ([],),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none",),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
_COMPLETION_OFF: dict[str, tuple[Any, ...]] = {"echo": (False,), "logprobs": (), "suffix": ("",)}


def parse_chat(body: bytes) -> OpenAICall:
    """Parse the body of `/v1/chat/completions`; raise an `InvalidInput` naming the field."""
    chat = parse_body(_ChatBody, body)
    _refuse_unsupported(chat, _CHAT_OFF)
    parameters = chat.parameters()
    if chat.max_completion_tokens is not None:
        if parameters.get("max_tokens", chat.max_completion_tokens) != chat.max_completion_tokens:
            raise InvalidParameter(
                "`max_tokens` and `max_completion_tokens` mean the same and must not differ. "
                "Send one of them.",
                param="max_completion_tokens",
            )
        parameters["max_tokens"] = chat.max_completion_tokens
    if isinstance(chat.messages, str):
        raise InvalidPrompt("`messages` must be a list. Given: a string.", param="messages")
    return chat.call((parse_messages(chat.messages),), parameters)


def parse_completion(body: bytes) -> OpenAICall:
    """Parse the body of `/v1/completions`: prompts are taken as they are, never rendered."""
    completion = parse_body(_CompletionBody, body)
    _refuse_unsupported(completion, _COMPLETION_OFF)
    parameters = completion.parameters()
    if completion.best_of not in (None, parameters.get("n", 1)):
        raise UnsupportedParameter(
            "`best_of` is not supported unless it equals `n`. Leave it out.", param="best_of"
        )
    return completion.call(_parse_prompts(completion.prompt), parameters)


def _parse_prompts(prompt: Any) -> tuple[PromptInput, ...]:
    """Take a string, a list of strings, token ids, or a list of lists of token ids."""
    if isinstance(prompt, str):
        return (RawText(prompt),)
    if isinstance(prompt, list) and prompt:
        if all(isinstance(item, str) for item in prompt):
            return tuple(RawText(text) for text in prompt)
        if _are_token_ids(prompt):
            return (TokenIds(tuple(prompt)),)
        if all(isinstance(item, list) and _are_token_ids(item) for item in prompt):
            return tuple(TokenIds(tuple(ids)) for ids in prompt)
    raise InvalidPrompt(
        "`prompt` must be a string, a list of strings, a list of token ids or a list of lists of "
        "token ids, none of them empty.",
        param="prompt",
    )


def _are_token_ids(items: list[Any]) -> bool:
    return bool(items) and all(type(item) is int for item in items)


def _refuse_unsupported(body: _Common, off: Mapping[str, tuple[Any, ...]]) -> None:
    for name, values in off.items():
        given = getattr(body, name)
        if given is not None and not any(_same(given, value) for value in values):
            raise _unsupported(name, values)


def _same(given: Any, value: Any) -> bool:
    """Compare without taking true for 1 or false for 0."""
    return type(given) is type(value) and bool(given == value)


def _unsupported(name: str, off: tuple[Any, ...]) -> UnsupportedParameter:
    allowed = " or ".join(repr(value) for value in off)
    instead = f" other than {allowed}" if off else ""
    return UnsupportedParameter(f"`{name}`{instead} is not supported. Leave it out.", param=name)
