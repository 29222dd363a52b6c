"""Log-probabilities in OpenAI's bodies: what is asked for, and both forms of the answer."""

from collections.abc import Sequence
from typing import Any

from mooring.errors import InvalidParameter
from mooring.generation import MAX_TOP_LOGPROBS, TextToken


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


def chat_logprobs(tokens: Sequence[TextToken]) -> dict[str, Any] | None:
    """Return the `logprobs` of a chat's choice; null where there are none."""
    if not tokens:
        return None
    content = [
        _chat_token(token.raw, token.logprob or 0.0)
        | {"top_logprobs": [_chat_token(*one) for one in token.top]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(tokens: Sequence[TextToken]) -> dict[str, Any] | None:
    """Return the `logprobs` of a completion's choice; null where there are none."""
    if not tokens:
        return None
    return {
        "tokens": [_completion_text(token.raw) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_completion_top(token) for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }


def shown(raw: bytes) -> str:
    r"""Return a token's text; bytes that are no whole characters as `\xe2\x82`."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in raw)


def _chat_token(raw: bytes, logprob: float) -> dict[str, Any]:
    return {"token": shown(raw), "logprob": logprob, "bytes": list(raw)}


def _completion_text(raw: bytes) -> str:
    text = shown(raw)
    return f"bytes:{text}" if text.startswith("\\x") and text.encode() != raw else text


def _completion_top(token: TextToken) -> dict[str, float] | None:
    """Return the most likely tokens, and the token itself; of equal texts the most likely."""
    if token.logprob is None:
        return None
    top: dict[str, float] = {}
    for raw, logprob in (*token.top, (token.raw, token.logprob)):
        top.setdefault(_completion_text(raw), logprob)
    return top
