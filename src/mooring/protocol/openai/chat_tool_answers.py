"""How `/v1/chat/completions` answers a model that may call tools."""

from collections.abc import Iterable, Sequence
from typing import Any

from mooring.protocol.openai.answers import AnswerHead, Choice, EndReason, Usage
from mooring.protocol.openai.chat_answers import ChatFormat
from mooring.protocol.tool_calls.formats import CallReader, ToolFormat
from mooring.protocol.tool_calls.pieces import CallStart, Piece, SaidText
from mooring.protocol.tool_calls.use import ToolUse


class ChatToolFormat(ChatFormat):
    """The answers to one request, whose calls are told apart from its text; keeps what it read."""

    def __init__(self, tools: ToolFormat, use: ToolUse, *, by_id: bool = False) -> None:
        super().__init__(by_id=by_id)
        self._tools = tools
        self._use = use
        self._readers: dict[int, CallReader] = {}
        self._calls: dict[int, int] = {}

    def whole(self, head: AnswerHead, choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
        """Return a `chat.completion`, its calls as `tool_calls`."""
        body = super().whole(head, choices, usage)
        for written, choice in zip(body["choices"], choices, strict=True):
            reader = self._tools.reader(self._use, eager=False)
            text, calls = self._sorted([*reader.push(choice.text), *reader.finish()])
            if calls:
                written["message"] |= {"content": text or None, "tool_calls": calls}
                written["finish_reason"] = _reason(choice.reason, called=True)
        return body

    def delta(self, head: AnswerHead, index: int, text: str) -> list[dict[str, Any]]:
        """Return chunks with text, beginnings of calls, and parts of their arguments."""
        return self._written(head, index, self._reader(index).push(text))

    def end(self, head: AnswerHead, index: int, reason: EndReason) -> list[dict[str, Any]]:
        """Return what was held back, and the chunk with the finish reason."""
        chunks = self._written(head, index, self._reader(index).finish())
        called = index in self._calls
        return [*chunks, self.chunk(head, index, {}, _reason(reason, called=called))]

    def _reader(self, index: int) -> CallReader:
        if index not in self._readers:
            self._readers[index] = self._tools.reader(self._use, eager=True)
        return self._readers[index]

    def _written(
        self, head: AnswerHead, index: int, pieces: Iterable[Piece]
    ) -> list[dict[str, Any]]:
        return [self.chunk(head, index, self._delta(index, piece)) for piece in pieces]

    def _delta(self, index: int, piece: Piece) -> dict[str, Any]:
        if isinstance(piece, SaidText):
            return {"content": piece.text}
        if isinstance(piece, CallStart):
            number = self._calls[index] = self._calls.get(index, -1) + 1
            return {"tool_calls": [{"index": number, **self._call(piece.name)}]}
        function = {"arguments": piece.text}
        return {"tool_calls": [{"index": self._calls[index], "function": function}]}

    def _call(self, name: str) -> dict[str, Any]:
        function = {"name": name, "arguments": ""}
        return {"id": self._tools.new_id(), "type": "function", "function": function}

    def _sorted(self, pieces: Iterable[Piece]) -> tuple[str, list[dict[str, Any]]]:
        text, calls = "", list[dict[str, Any]]()
        for piece in pieces:
            if isinstance(piece, SaidText):
                text += piece.text
            elif isinstance(piece, CallStart):
                calls.append(self._call(piece.name))
            else:
                calls[-1]["function"]["arguments"] += piece.text
        return text, calls


def _reason(reason: EndReason, *, called: bool) -> Any:
    return "tool_calls" if called and reason == "stop" else reason
