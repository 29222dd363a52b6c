"""How `/v1/chat/completions` answers for a model that thinks before it speaks."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from mooring.generation import TextToken
from mooring.protocol.openai.answers import AnswerHead, Choice, ChunkLines, EndReason, Usage
from mooring.protocol.openai.chat_answers import ChatFormat
from mooring.protocol.thoughts import Thought, ThoughtReader
from mooring.protocol.tool_calls.pieces import SaidText


class ChatThoughtFormat(ChunkLines):
    """The answers to one request, whose thoughts are told apart; `answers` writes what is said.

    `thinking` says that the prompt ended within a thought; without `told` thoughts are left out.
    """

    id_prefix = ChatFormat.id_prefix

    def __init__(self, answers: ChatFormat, *, thinking: bool, told: bool = True) -> None:
        self._answers = answers
        self._told = told
        self._thinking = thinking
        self._readers: dict[int, ThoughtReader] = {}

    def whole(self, head: AnswerHead, choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
        """Return a `chat.completion`; where nothing was said after a thought, its content is null.

        The thought is named as vLLM names it, and as others do.
        """
        said, thoughts = [], []
        for choice in choices:
            reader = ThoughtReader(thinking=self._thinking)
            pieces = [*reader.push(choice.text), *reader.finish()]
            said.append(replace(choice, text=_joined(pieces, SaidText)))
            thoughts.append(_joined(pieces, Thought))
        body = self._answers.whole(head, said, usage)
        for written, thought in zip(body["choices"], thoughts, strict=True):
            if thought:
                message = written["message"]
                message |= {"content": message["content"] or None, **self._named(thought)}
        return body

    def opening(self, head: AnswerHead, index: int) -> list[dict[str, Any]]:
        """Return the chunk that names the role."""
        return self._answers.opening(head, index)

    def delta(self, head: AnswerHead, index: int, text: str) -> list[dict[str, Any]]:
        """Return chunks with thoughts, and those of what is said."""
        return self._written(head, index, self._reader(index).push(text))

    def end(self, head: AnswerHead, index: int, reason: EndReason) -> list[dict[str, Any]]:
        """Return what was held back, and the chunk with the finish reason."""
        chunks = self._written(head, index, self._reader(index).finish())
        return chunks + self._answers.end(head, index, reason)

    def logprobs(self, tokens: Sequence[TextToken]) -> dict[str, Any] | None:
        """Return the log-probabilities of a choice's tokens, also of those of thoughts."""
        return self._answers.logprobs(tokens)

    def usage(self, head: AnswerHead, usage: Usage) -> dict[str, Any]:
        """Return the chunk with the usage."""
        return self._answers.usage(head, usage)

    def _reader(self, index: int) -> ThoughtReader:
        return self._readers.setdefault(index, ThoughtReader(thinking=self._thinking))

    def _written(
        self, head: AnswerHead, index: int, pieces: Iterable[Thought | SaidText]
    ) -> list[dict[str, Any]]:
        chunks = []
        for piece in pieces:
            if isinstance(piece, Thought):
                if self._told:
                    chunks.append(self._answers.chunk(head, index, self._named(piece.text)))
            else:
                chunks += self._answers.delta(head, index, piece.text)
        return chunks

    def _named(self, thought: str) -> dict[str, str]:
        return {"reasoning": thought, "reasoning_content": thought} if self._told else {}


def _joined(pieces: Iterable[Thought | SaidText], kind: type[Thought | SaidText]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, kind))
