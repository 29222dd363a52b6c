"""The output of `/v1/responses` while it grows: items, and the events that tell of them."""

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

from mooring.protocol.thoughts import Thought, ThoughtReader
from mooring.protocol.tool_calls.formats import CallReader, ToolFormat
from mooring.protocol.tool_calls.pieces import CallArguments, CallStart, Piece, SaidText

Event = dict[str, Any]


class ResponseOutput:
    """Collects what a model says as items; each step returns the events of what has changed."""

    def __init__(
        self, reader: CallReader | None, tools: ToolFormat | None, thoughts: ThoughtReader | None
    ) -> None:
        self.items: list[dict[str, Any]] = []
        self._thoughts = thoughts
        self._reader = reader
        self._tools = tools
        self._open: dict[str, Any] | None = None

    def push(self, text: str) -> list[Event]:
        """Add what the model said next."""
        pieces = self._thoughts.push(text) if self._thoughts else [SaidText(text)]
        return self._take(self._with_calls(pieces))

    def finish(self, *, whole: bool) -> list[Event]:
        """End the last item; it is not `whole` where the model had no more room."""
        events = self._take(self._with_calls(self._thoughts.finish() if self._thoughts else []))
        events += self._take(self._reader.finish() if self._reader else [])
        if not self.items:
            events += self._begin_text("message")
        return events + self._close("completed" if whole else "incomplete")

    def _with_calls(self, pieces: Iterable[Thought | SaidText]) -> Iterator[Thought | Piece]:
        for piece in pieces:
            if isinstance(piece, SaidText) and self._reader:
                yield from self._reader.push(piece.text)
            else:
                yield piece

    def _take(self, pieces: Iterable[Thought | Piece]) -> list[Event]:
        events: list[Event] = []
        for piece in pieces:
            match piece:
                case Thought(text) | SaidText(text):
                    kind = "reasoning" if isinstance(piece, Thought) else "message"
                    if self._open is None or self._open["type"] != kind:
                        events += self._close("completed") + self._begin_text(kind)
                    events.append(self._add_text(text))
                case CallStart(name):
                    events += self._close("completed") + self._begin_call(name)
                case CallArguments(text):
                    events.append(self._add_arguments(text))
        return events

    def _begin_text(self, kind: str) -> list[Event]:
        item: dict[str, Any] = {"id": f"msg_{uuid4().hex}", "type": kind, "role": "assistant"}
        if kind == "reasoning":
            item = {"id": f"rs_{uuid4().hex}", "type": kind, "summary": []}
        added = self._begin({**item, "status": "in_progress", "content": []})
        assert self._open is not None
        self._open["content"] = [_part(kind)]
        return [added, self._event("content_part.added", content_index=0, part=_part(kind))]

    def _begin_call(self, name: str) -> list[Event]:
        assert self._tools is not None
        item = {
            "id": f"fc_{uuid4().hex}",
            "type": "function_call",
            "call_id": self._tools.new_id(),
            "name": name,
            "arguments": "",
            "status": "in_progress",
        }
        return [self._begin(item)]

    def _begin(self, item: dict[str, Any]) -> Event:
        self._open = item
        self.items.append(item)
        return {
            "type": "response.output_item.added",
            "output_index": len(self.items) - 1,
            "item": dict(item),
        }

    def _add_text(self, text: str) -> Event:
        assert self._open is not None
        part = self._open["content"][0]
        part["text"] += text
        return self._event(f"{part['type']}.delta", content_index=0, delta=text, **_logprobs(part))

    def _add_arguments(self, text: str) -> Event:
        assert self._open is not None
        self._open["arguments"] += text
        return self._event("function_call_arguments.delta", delta=text)

    def _close(self, status: str) -> list[Event]:
        item = self._open
        if item is None:
            return []
        item["status"] = status
        if item["type"] != "function_call":
            part = item["content"][0]
            whole = {"content_index": 0, "text": part["text"], **_logprobs(part)}
            events = [
                self._event(f"{part['type']}.done", **whole),
                self._event("content_part.done", content_index=0, part=part),
            ]
        else:
            said = {"name": item["name"], "arguments": item["arguments"]}
            events = [self._event("function_call_arguments.done", **said)]
        self._open = None
        done = {"output_index": len(self.items) - 1, "item": item}
        return [*events, {"type": "response.output_item.done", **done}]

    def _event(self, kind: str, **fields: Any) -> Event:
        assert self._open is not None
        at = {"item_id": self._open["id"], "output_index": len(self.items) - 1}
        return {"type": f"response.{kind}", **at, **fields}


def _part(kind: str) -> dict[str, Any]:
    """Return the empty content of an item of a kind."""
    if kind == "reasoning":
        return {"type": "reasoning_text", "text": ""}
    return {"type": "output_text", "text": "", "annotations": [], "logprobs": []}


def _logprobs(part: dict[str, Any]) -> dict[str, Any]:
    """Return the field that events of a text have, and those of a thought do not."""
    return {"logprobs": []} if "logprobs" in part else {}
