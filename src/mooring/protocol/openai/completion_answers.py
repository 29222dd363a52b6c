"""How `/v1/completions` answers."""

from collections.abc import Sequence
from typing import Any

from mooring.generation import TextToken
from mooring.protocol.openai.answers import AnswerHead, Choice, ChunkLines, EndReason, Usage
from mooring.protocol.openai.logprobs import completion_logprobs


class CompletionFormat(ChunkLines):
    """The answers of `/v1/completions`; with `by_id` log-probabilities name token ids."""

    id_prefix = "cmpl-"

    def __init__(self, *, by_id: bool = False) -> None:
        self._by_id = by_id

    def whole(self, head: AnswerHead, choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
        """Return a `text_completion`."""
        written = [
            _text_choice(index, choice.text, choice.reason)
            | {"logprobs": self.logprobs(choice.logprobs)}
            for index, choice in enumerate(choices)
        ]
        return head.body("text_completion", written) | {"usage": usage.body()}

    def opening(self, head: AnswerHead, index: int) -> list[dict[str, Any]]:
        """Return nothing: text comes first."""
        return []

    def delta(self, head: AnswerHead, index: int, text: str) -> list[dict[str, Any]]:
        """Return a chunk with text."""
        return [head.body("text_completion", [_text_choice(index, text, None)])]

    def end(self, head: AnswerHead, index: int, reason: EndReason) -> list[dict[str, Any]]:
        """Return the chunk with the finish reason."""
        return [head.body("text_completion", [_text_choice(index, "", reason)])]

    def logprobs(self, tokens: Sequence[TextToken]) -> dict[str, Any] | None:
        """Return the log-probabilities of a choice's tokens."""
        return completion_logprobs(tokens, by_id=self._by_id)

    def usage(self, head: AnswerHead, usage: Usage) -> dict[str, Any]:
        """Return the chunk with the usage."""
        return head.body("text_completion", []) | {"usage": usage.body()}


def _text_choice(index: int, text: str, reason: EndReason | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
