"""OpenAI answers: whole bodies, the chunks of a stream, and the lines they travel in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mooring.generation import TextToken

EndReason = Literal["stop", "length"]

STREAM_END = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Choice:
    """One whole completion."""

    text: str
    reason: EndReason
    logprobs: tuple[TextToken, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of the prompts, of which `cached_tokens` were read before, and tokens generated."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    def body(self) -> dict[str, Any]:
        """Return OpenAI's `usage` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What every body of one answer repeats; `created` is in seconds since the epoch."""

    id: str
    created: int
    model: str
    fingerprint: str

    def body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """Return an answer object of `kind`."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }


class AnswerFormat(Protocol):
    """How one OpenAI route writes its answers; `stream_end` follows the last event."""

    id_prefix: str
    stream_end: bytes

    def whole(self, head: AnswerHead, choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""

    def opening(self, head: AnswerHead, index: int) -> list[dict[str, Any]]:
        """Return the chunks that come before the text of choice `index`."""

    def delta(self, head: AnswerHead, index: int, text: str) -> list[dict[str, Any]]:
        """Return the chunks with the next text of choice `index`; none while it is held back."""

    def end(self, head: AnswerHead, index: int, reason: EndReason) -> list[dict[str, Any]]:
        """Return what was held back of choice `index`, and the chunk that says why it ended."""

    def logprobs(self, tokens: Sequence[TextToken]) -> dict[str, Any] | None:
        """Return the `logprobs` of a choice, or of the first chunk that has text of `tokens`."""

    def usage(self, head: AnswerHead, usage: Usage) -> dict[str, Any]:
        """Return the last chunk, with no choice and the usage."""

    def failure(self, head: AnswerHead, error: dict[str, Any]) -> dict[str, Any]:
        """Return the last event of an answer that failed; `error` is OpenAI's error object."""

    def line(self, chunk: dict[str, Any], *, usage: bool) -> bytes:
        """Return a chunk as one server-sent event; `usage` says whether a usage will follow."""


class ChunkLines:
    """How chunks travel: as events without names, and [DONE] at the end."""

    stream_end = STREAM_END

    def failure(self, head: AnswerHead, error: dict[str, Any]) -> dict[str, Any]:
        """Return the error object itself."""
        return error

    def line(self, chunk: dict[str, Any], *, usage: bool) -> bytes:
        """Return one event; where a usage will follow, the chunks before have an empty one."""
        awaits_usage = usage and "choices" in chunk and "usage" not in chunk
        return event_line(chunk | {"usage": None} if awaits_usage else chunk)


def model_body(id: str, created: int, context_length: int) -> dict[str, Any]:
    """Return OpenAI's `model` object, with its context in tokens under vLLM's name."""
    return {
        "id": id,
        "object": "model",
        "created": created,
        "owned_by": "mooring",
        "max_model_len": context_length,
    }


def model_list(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return OpenAI's list of models."""
    return {"object": "list", "data": list(models)}


def error_body(message: str, kind: str, *, param: str | None, code: str) -> dict[str, Any]:
    """Return OpenAI's error object; `kind` is its `type`."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def event_line(body: dict[str, Any]) -> bytes:
    """Return one server-sent event; in ASCII, as some clients end lines at U+2028 or U+0085."""
    text = json.dumps(body, separators=(",", ":"))
    return f"data: {text}\n\n".encode("ascii")
