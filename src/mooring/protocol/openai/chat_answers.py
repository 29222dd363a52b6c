"""How `/v1/chat/completions` answers."""

from collections.abc import Sequence
from typing import Any

from mooring.generation import TextToken
from mooring.protocol.openai.answers import AnswerHead, Choice, ChunkLines, EndReason, Usage
from mooring.protocol.openai.logprobs import chat_logprobs


class ChatFormat(ChunkLines):
    """The answers of `/v1/chat/completions`; with `by_id` log-probabilities name token ids."""

    id_prefix = "chatcmpl-"

    def __init__(self, *, by_id: bool = False) -> None:
        self._by_id = by_id

    def whole(self, head: AnswerHead, choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
        """Return a `chat.completion`."""
        written = [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": self.logprobs(choice.logprobs),
                "finish_reason": choice.reason,
            }
            for index, choice in enumerate(choices)
        ]
        return head.body("chat.completion", written) | {"usage": usage.body()}

    def opening(self, head: AnswerHead, index: int) -> list[dict[str, Any]]:
        """Return the chunk that names the role."""
        return [self.chunk(head, index, {"role": "assistant", "content": "", "refusal": None})]

    def delta(self, head: AnswerHead, index: int, text: str) -> list[dict[str, Any]]:
        """Return a chunk with text."""
        return [self.chunk(head, index, {"content": text})]

    def end(self, head: AnswerHead, index: int, reason: EndReason) -> list[dict[str, Any]]:
        """Return the chunk with the finish reason."""
        return [self.chunk(head, index, {}, reason)]

    def logprobs(self, tokens: Sequence[TextToken]) -> dict[str, Any] | None:
        """Return the log-probabilities of a choice's tokens."""
        return chat_logprobs(tokens, by_id=self._by_id)

    def usage(self, head: AnswerHead, usage: Usage) -> dict[str, Any]:
        """Return the chunk with the usage."""
        return head.body("chat.completion.chunk", []) | {"usage": usage.body()}

    def chunk(
        self, head: AnswerHead, index: int, delta: dict[str, Any], reason: EndReason | None = None
    ) -> dict[str, Any]:
        """Return a chunk with what is new of one choice."""
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return head.body("chat.completion.chunk", [choice])
