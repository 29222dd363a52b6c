"""The body of `/v1/responses`: every field honoured, or refused by name."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field

from mooring.errors import InvalidParameter
from mooring.generation import Grammar
from mooring.protocol.body import Items, StrictBody, parse_body
from mooring.protocol.openai.fields import OpenAICall, refuse_unsupported
from mooring.protocol.openai.response_input import parse_input
from mooring.protocol.openai.structured import parse_text_format
from mooring.protocol.openai.tools import FUNCTION_NAME, tool_of, tool_use

SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "seed", "logit_bias", "ignore_eos",
)  # fmt: skip

# Fields that ask for what is not offered, unless they have one of these values.
RESPONSE_OFF: dict[str, tuple[Any, ...]] = {
    "access_programs": (),
    "background": (False,),
    "background_options": (),
    "context_management": (),
    "conversation": (),
    "image": (),
    "include": ([],),
    "max_tool_calls": (),
    "moderation": (),
    "previous_response_id": (),
    "prompt": (),
    "reasoning": ({}, {"effort": "none"}, {"effort": None, "summary": None}),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}


class ResponseTool(StrictBody):
    """A tool of `/v1/responses`: a function; tools that OpenAI runs itself are not offered."""

    type: Literal["function"]
    name: str = Field(pattern=FUNCTION_NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class TextOptions(StrictBody):
    """What text has to be."""

    format: Any = None
    verbosity: Literal["medium"] | None = None


class ResponseStreamOptions(StrictBody):
    """How to stream."""

    include_obfuscation: Literal[False] | None = None


class ResponseBody(StrictBody):
    """What a client may send."""

    model: str
    input: Any = Field()
    instructions: str | None = None
    max_output_tokens: Any = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    text: TextOptions | None = None
    tools: Items[ResponseTool] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None

    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    min_p: Any = None
    repetition_penalty: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    seed: Any = None
    logit_bias: Any = None
    ignore_eos: Any = None

    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None

    access_programs: Any = None
    background: Any = None
    background_options: Any = None
    context_management: Any = None
    conversation: Any = None
    image: Any = None
    include: Any = None
    max_tool_calls: Any = None
    moderation: Any = None
    previous_response_id: Any = None
    prompt: Any = None
    reasoning: Any = None
    service_tier: Any = None
    store: Any = None
    top_logprobs: Any = None
    truncation: Any = None


@dataclass(frozen=True, slots=True)
class ResponseCall(OpenAICall):
    """A call whose answer repeats what was asked."""

    body: ResponseBody


def parse_response(body: bytes) -> ResponseCall:
    """Parse the body of `/v1/responses`; raise an `InvalidInput` naming the field."""
    asked = parse_body(ResponseBody, body)
    refuse_unsupported(asked, RESPONSE_OFF)
    if asked.stream_options is not None and not asked.stream:
        raise InvalidParameter(
            "`stream_options` may only be given with `stream` = true.", param="stream_options"
        )
    use = tool_use(
        [tool_of(tool.name, tool.description, tool.parameters, tool.strict)
         for tool in asked.tools or ()],
        asked.tool_choice,
        asked.parallel_tool_calls,
    )  # fmt: skip
    conversation = parse_input(asked.input, asked.instructions)
    if use is not None:
        conversation = replace(conversation, tools=use.tools)
    return ResponseCall(
        (conversation,),
        _parameters(asked),
        asked.model,
        bool(asked.stream),
        True,
        asked,
        grammar=_grammar(asked.text),
        tool_use=use,
    )


def _parameters(asked: ResponseBody) -> dict[str, Any]:
    given = {name: getattr(asked, name) for name in SAMPLING}
    parameters = {name: value for name, value in given.items() if value is not None}
    most = asked.max_output_tokens
    if most is not None:
        if type(most) is not int or most < 1:
            raise InvalidParameter(
                f"`max_output_tokens` must be a whole number >= 1. Given: {str(most)[:40]}.",
                param="max_output_tokens",
            )
        parameters["max_tokens"] = most
    return parameters | {"n": 1}


def _grammar(text: TextOptions | None) -> Grammar | None:
    """Return the grammar of `text.format`."""
    return None if text is None or text.format is None else parse_text_format(text.format)
