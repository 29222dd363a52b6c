"""The body of `/v1/chat/completions`: every field honoured, or refused by name."""

from dataclasses import replace
from typing import Any

from pydantic import Field

from mooring.errors import InvalidParameter, InvalidPrompt, UnsupportedParameter
from mooring.generation import LogprobsWanted
from mooring.protocol.body import Items, parse_body
from mooring.protocol.messages import parse_messages, template_options
from mooring.protocol.openai.fields import VLLM_OFF, GenerationBody, OpenAICall, refuse_unsupported
from mooring.protocol.openai.logprobs import checked_count
from mooring.protocol.openai.tools import FunctionTool, tool_use


class ChatBody(GenerationBody):
    """What a client may send."""

    messages: Any = Field()
    max_completion_tokens: Any = None

    logprobs: bool | None = None
    top_logprobs: Any = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    tools: Items[FunctionTool] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None

    audio: Any = None
    function_call: Any = None
    functions: Any = None
    modalities: Any = None
    moderation: Any = None
    prediction: Any = None
    reasoning_effort: Any = None
    service_tier: Any = None
    store: Any = None
    verbosity: Any = None
    web_search_options: Any = None

    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    chat_template: Any = None
    documents: Items[dict[str, Any]] | None = None
    echo: bool | None = None
    include_reasoning: bool | None = None


# Fields that ask for what is not offered, unless they have one of these values.
CHAT_OFF: dict[str, tuple[Any, ...]] = VLLM_OFF | {
    "audio": (),
    "chat_template": (),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}


def parse_chat(body: bytes) -> OpenAICall:
    """Parse the body of `/v1/chat/completions`; raise an `InvalidInput` naming the field."""
    chat = parse_body(ChatBody, body)
    _refuse_functions(chat)
    refuse_unsupported(chat, CHAT_OFF)
    parameters = chat.parameters()
    if chat.max_completion_tokens is not None:
        if parameters.get("max_tokens", chat.max_completion_tokens) != chat.max_completion_tokens:
            raise InvalidParameter(
                "`max_tokens` and `max_completion_tokens` mean the same and must not differ. "
                "Send one of them.",
                param="max_completion_tokens",
            )
        parameters["max_tokens"] = chat.max_completion_tokens
    wanted = _wanted(chat)
    if isinstance(chat.messages, str):
        raise InvalidPrompt("`messages` must be a list. Given: a string.", param="messages")
    use = tool_use(
        [tool.function.tool() for tool in chat.tools or ()],
        chat.tool_choice,
        chat.parallel_tool_calls,
    )
    conversation = replace(
        parse_messages(chat.messages),
        tools=use.tools if use is not None else (),
        options=template_options(
            chat.add_generation_prompt, chat.continue_final_message, _template_values(chat)
        ),
    )
    return replace(
        chat.call((conversation,), parameters),
        tool_use=use,
        logprobs=wanted,
        echo=bool(chat.echo),
        tells_thoughts=chat.include_reasoning is not False,
    )


def _template_values(chat: ChatBody) -> dict[str, Any]:
    """Return what a client gives the chat template; documents are for templates that read them."""
    values = dict(chat.chat_template_kwargs or {})
    if chat.documents:
        values["documents"] = list(chat.documents)
    return values


def _refuse_functions(chat: ChatBody) -> None:
    """Refuse what `tools` have replaced, and say so."""
    for name, given, off, instead in (
        ("functions", chat.functions, [], "tools"),
        ("function_call", chat.function_call, "none", "tool_choice"),
    ):
        if given is not None and given != off:
            raise UnsupportedParameter(
                f"`{name}` is not supported: OpenAI has replaced it. Send `{instead}`.", param=name
            )


def _wanted(chat: ChatBody) -> LogprobsWanted:
    top = checked_count("top_logprobs", chat.top_logprobs)
    if top and not chat.logprobs:
        raise InvalidParameter(
            "`top_logprobs` may only be given with `logprobs` = true.", param="top_logprobs"
        )
    return LogprobsWanted(answer=(top or 0) if chat.logprobs else None)
