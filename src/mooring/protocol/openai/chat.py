"""The body of `/v1/chat/completions`: every field honoured, or refused by name."""

from typing import Any

from pydantic import Field

from mooring.errors import InvalidParameter, InvalidPrompt
from mooring.protocol.body import parse_body
from mooring.protocol.openai.fields import GenerationBody, OpenAICall, refuse_unsupported
from mooring.protocol.rows import parse_messages


class ChatBody(GenerationBody):
    """What a client may send."""

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


def parse_chat(body: bytes) -> OpenAICall:
    """Parse the body of `/v1/chat/completions`; raise an `InvalidInput` naming the field."""
    chat = parse_body(ChatBody, body)
    refuse_unsupported(chat, _CHAT_OFF)
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
