"""The body of `/v1/completions`: every field honoured, or refused by name."""

from dataclasses import replace
from typing import Any

from pydantic import Field

from mooring.errors import InvalidParameter, InvalidPrompt
from mooring.generation import LogprobsWanted, PromptInput, RawText, TokenIds
from mooring.generation.sampling import MAX_COMPLETIONS, check_parameter
from mooring.protocol.body import parse_body
from mooring.protocol.openai.fields import VLLM_OFF, GenerationBody, OpenAICall, refuse_unsupported
from mooring.protocol.openai.logprobs import checked_count


class CompletionBody(GenerationBody):
    """What a client may send."""

    prompt: Any = Field()
    best_of: Any = None

    echo: bool | None = None
    logprobs: Any = None
    suffix: Any = None


# Fields that ask for what is not offered, unless they have one of these values.
COMPLETION_OFF: dict[str, tuple[Any, ...]] = VLLM_OFF | {"suffix": ("",)}


def parse_completion(body: bytes) -> OpenAICall:
    """Parse the body of `/v1/completions`: prompts are taken as they are, never rendered."""
    completion = parse_body(CompletionBody, body)
    refuse_unsupported(completion, COMPLETION_OFF)
    parameters = completion.parameters()
    most, echo = checked_count("logprobs", completion.logprobs), bool(completion.echo)
    echo_only = echo and type(parameters.get("max_tokens")) is int and not parameters["max_tokens"]
    if echo_only:
        del parameters["max_tokens"]
    return replace(
        completion.call(_parse_prompts(completion.prompt), parameters),
        logprobs=LogprobsWanted(answer=most, prompt=most if echo else None),
        echo=echo,
        echo_only=echo_only,
        best_of=_best_of(completion, parameters),
    )


def _best_of(completion: CompletionBody, parameters: dict[str, Any]) -> int | None:
    """Return how many completions to generate for each prompt, None for those that answer."""
    if completion.best_of is None:
        return None
    most, least = completion.best_of, check_parameter("n", parameters.get("n", 1))
    if type(most) is not int or not least <= most <= MAX_COMPLETIONS:
        raise InvalidParameter(
            f"`best_of` must be a whole number >= {least}, which is `n`, and <= "
            f"{MAX_COMPLETIONS}. Given: {str(most)[:40]}.",
            param="best_of",
        )
    if most > least and completion.stream:
        raise InvalidParameter(
            "`best_of` above `n` does not go with `stream`: the best is known at the end. "
            "Leave one of them out.",
            param="best_of",
        )
    if most == least:
        return None
    parameters["n"] = least
    return most


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
