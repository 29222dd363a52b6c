"""What vLLM tells beside OpenAI's fields: token ids, likely prompts, what stopped an answer."""

from collections.abc import Sequence
from typing import Any

from mooring.errors import InvalidParameter
from mooring.generation import TextToken
from mooring.protocol.openai.logprobs import checked_count, shown


def prompt_logprobs_wanted(value: Any, *, stream: bool) -> int | None:
    """Return with how many of the most likely tokens a prompt is to be told; None for not at all.

    A stream begins before there is anything to tell them with, as in vLLM.
    """
    most = checked_count("prompt_logprobs", value)
    if most is not None and stream:
        raise InvalidParameter(
            "`prompt_logprobs` does not go with `stream`. Leave one of them out.",
            param="prompt_logprobs",
        )
    return most


def tell_prompt(body: dict[str, Any], index: int, name: str, told: Any) -> None:
    """Put what is told of the prompt of choice `index` into a body or a chunk.

    A completion has one prompt for each choice, a chat has one for all.
    """
    place = body["choices"][index] if body["object"] == "text_completion" else body
    place[name] = told


def tell_ids(
    body: dict[str, Any], prompt_ids: Sequence[Sequence[int]], token_ids: Sequence[Sequence[int]]
) -> None:
    """Put the token ids of each choice, and of its prompt, into a whole body."""
    for index, (before, said) in enumerate(zip(prompt_ids, token_ids, strict=True)):
        tell_prompt(body, index, "prompt_token_ids", list(before))
        body["choices"][index]["token_ids"] = list(said)


def tell_stop(body: dict[str, Any], index: int, stopped_by: str | int | None) -> None:
    """Put the stop string or token that ended choice `index` into a body or a chunk."""
    if stopped_by is not None and "choices" in body:
        body["choices"][index]["stop_reason"] = stopped_by


def told_prompt(tokens: Sequence[TextToken], most: int) -> list[dict[str, Any] | None]:
    """Return how likely each token of a prompt is, with `most` of the most likely, by their ids.

    Null for the first one; ranks count from 1.
    """
    return [None if token.logprob is None else _told(token, most) for token in tokens]


def _told(token: TextToken, most: int) -> dict[str, Any]:
    told = {str(token.id): _weighed(token.raw, token.logprob, token.rank)}
    for rank, rival in enumerate(token.top[:most], start=1):
        told.setdefault(str(rival.id), _weighed(rival.raw, rival.logprob, rank))
    return told


def _weighed(raw: bytes, logprob: float | None, rank: int | None) -> dict[str, Any]:
    return {"logprob": logprob, "rank": rank, "decoded_token": shown(raw)}
