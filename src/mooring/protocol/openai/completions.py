"""The body of `/v1/completions`: every field honoured, or refused by name."""

from dataclasses import replace
from typing import Any

from pydantic import Field

from mooring.errors import InvalidPrompt, UnsupportedParameter
from mooring.generation import LogprobsWanted, PromptInput, RawText, TokenIds
from mooring.protocol.body import parse_body
from mooring.protocol.openai.fields import GenerationBody, OpenAICall, refuse_unsupported
from mooring.protocol.openai.logprobs import checked_count


class CompletionBody(GenerationBody):
    """What a client may send."""

    prompt: Any = Field()
    best_of: Any = None

    echo: bool | None = None
    logprobs: Any = None
    suffix: Any = None


# Fields that ask for what is not offered, unless they have one of these values.
COMPLETION_OFF: dict[str, tuple[Any, ...]] = {"suffix": ("",)}


def parse_completion(body: bytes) -> OpenAICall:
    """Parse the body of `/v1/completions`: prompts are taken as they are, never rendered."""
    completion = parse_body(CompletionBody, body)
    refuse_unsupported(completion, COMPLETION_OFF)
    parameters = completion.parameters()
    if completion.best_of not in (None, parameters.get("n", 1)):
        raise UnsupportedParameter(
            "`best_of` is not supported unless it equals `n`. Leave it out.", param="best_of"
        )
    most, echo = checked_count("logprobs", completion.logprobs), bool(completion.echo)
    echo_only = echo and type(parameters.get("max_tokens")) is int and not parameters["max_tokens"]
    if echo_only:
        del parameters["max_tokens"]
    return replace(
        completion.call(_parse_prompts(completion.prompt), parameters),
        logprobs=LogprobsWanted(answer=most, prompt=most if echo else None),
        echo=echo,
        echo_only=echo_only,
    )


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
