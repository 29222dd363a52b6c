"""Log-probabilities in OpenAI's bodies: what is asked for, and both forms of the answer."""

from collections.abc import Callable, Sequence
from typing import Any

from mooring.errors import InvalidParameter
from mooring.generation import MAX_TOP_LOGPROBS, RivalToken, TextToken

Weighed = TextToken | RivalToken


def checked_count(name: str, value: Any) -> int | None:
    """Return how many of the most likely tokens a client wants named; None if it says nothing."""
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_TOP_LOGPROBS:
        given = str(value)[:40]
        raise InvalidParameter(
            f"`{name}` must be a whole number >= 0 and <= {MAX_TOP_LOGPROBS}. Given: {given}.",
            param=name,
        )
    return value


def chat_logprobs(tokens: Sequence[TextToken], *, by_id: bool = False) -> dict[str, Any] | None:
    """Return the `logprobs` of a chat's choice; null where there are none.

    With `by_id` tokens are named by their ids, as vLLM does it.
    """
    if not tokens:
        return None
    content = [
        _chat_token(token, by_id=by_id)
        | {"top_logprobs": [_chat_token(one, by_id=by_id) for one in token.top]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(
    tokens: Sequence[TextToken], *, by_id: bool = False
) -> dict[str, Any] | None:
    """Return the `logprobs` of a completion's choice; null where there are none.

    With `by_id` tokens are named by their ids, as vLLM does it.
    """
    if not tokens:
        return None
    name = _by_id if by_id else _by_text
    return {
        "tokens": [name(token) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_completion_top(token, name) for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }


def shown(raw: bytes) -> str:
    r"""Return a token's text; bytes that are no whole characters as `\xe2\x82`."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in raw)


def _chat_token(token: Weighed, *, by_id: bool) -> dict[str, Any]:
    name = _by_id(token) if by_id else shown(token.raw)
    return {"token": name, "logprob": token.logprob or 0.0, "bytes": list(token.raw)}


def _by_text(token: Weighed) -> str:
    text = shown(token.raw)
    return f"bytes:{text}" if text.startswith("\\x") and text.encode() != token.raw else text


def _by_id(token: Weighed) -> str:
    return f"token_id:{token.id}"


def _completion_top(token: TextToken, name: Callable[[Weighed], str]) -> dict[str, float] | None:
    """Return the most likely tokens, and the token itself; of equal names the most likely."""
    if token.logprob is None:
        return None
    top: dict[str, float] = {}
    several: tuple[Weighed, ...] = (*token.top, token)
    for one in several:
        top.setdefault(name(one), one.logprob or 0.0)
    return top
