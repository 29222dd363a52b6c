"""The bodies of `/tokenize` and `/detokenize`, and of what shows a prompt as the model reads it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mooring.errors import InvalidParameter, InvalidPrompt
from mooring.generation import PromptInput, RawText
from mooring.protocol.body import Items, StrictBody, parse_body
from mooring.protocol.messages import parse_messages, template_options
from mooring.protocol.openai.tools import FunctionTool

_RENDERING = ("continue_final_message", "chat_template_kwargs")


@dataclass(frozen=True, slots=True)
class TokenizeCall:
    """A prompt to be tokenized; `add_special_tokens` is None for what answers do."""

    model: str | None
    prompt: PromptInput
    add_special_tokens: bool | None
    with_texts: bool


@dataclass(frozen=True, slots=True)
class DetokenizeCall:
    """Token ids to be put into text."""

    model: str | None
    token_ids: tuple[int, ...]


class TokenizeBody(StrictBody):
    """What a client may send to `/tokenize`."""

    model: str | None = None
    prompt: str | None = None
    messages: Any = None
    tools: Items[FunctionTool] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(StrictBody):
    """What a client may send to `/detokenize`."""

    model: str | None = None
    tokens: Items[int]


def parse_tokenize(body: bytes) -> TokenizeCall:
    """Parse the body of `/tokenize`; raise an `InvalidInput` naming the field."""
    asked = parse_body(TokenizeBody, body)
    if (asked.prompt is None) == (asked.messages is None):
        given = "none" if asked.prompt is None else "both"
        raise InvalidPrompt(f"One of `prompt` and `messages` is needed. Given: {given}.")
    return TokenizeCall(
        asked.model, _prompt(asked), asked.add_special_tokens, bool(asked.return_token_strs)
    )


def parse_detokenize(body: bytes) -> DetokenizeCall:
    """Parse the body of `/detokenize`; raise an `InvalidInput` naming the field."""
    asked = parse_body(DetokenizeBody, body)
    return DetokenizeCall(asked.model, tuple(asked.tokens))


def tokenized_body(
    token_ids: Sequence[int], context_length: int, texts: Sequence[str] | None
) -> dict[str, Any]:
    """Return the answer of `/tokenize`; `texts` are those of the tokens, if asked for."""
    return {
        "count": len(token_ids),
        "max_model_len": context_length,
        "tokens": list(token_ids),
        "token_strs": None if texts is None else list(texts),
    }


def rendered_body(text: str, token_ids: Sequence[int], context_length: int) -> dict[str, Any]:
    """Return a prompt as the model reads it: its text, its tokens and their number."""
    return {
        "prompt": text,
        "count": len(token_ids),
        "max_model_len": context_length,
        "tokens": list(token_ids),
    }


def _prompt(asked: TokenizeBody) -> PromptInput:
    if asked.prompt is not None:
        for name in ("tools", *_RENDERING):
            if getattr(asked, name):
                message = f"`{name}` may only be given with `messages`."
                raise InvalidParameter(message, param=name)
        return RawText(asked.prompt)
    tools = tuple(tool.function.tool() for tool in asked.tools or ())
    options = template_options(
        asked.add_generation_prompt, asked.continue_final_message, asked.chat_template_kwargs
    )
    return replace(parse_messages(asked.messages), tools=tools, options=options)
