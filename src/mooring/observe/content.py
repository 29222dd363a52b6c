"""What was asked and answered, kept for traces only where the operator wants that."""

from collections.abc import Sequence
from typing import Any

from mooring.generation import Conversation, Instruction, Message, PromptInput, RawText, TokenIds


class Content:
    """The prompts of one request, and the texts of its answers by their number."""

    def __init__(self) -> None:
        self._prompts: Sequence[PromptInput] = ()
        self._texts: dict[int, list[str]] = {}

    def ask(self, prompts: Sequence[PromptInput]) -> None:
        """Keep what was asked."""
        self._prompts = prompts

    def add(self, index: int, text: str) -> None:
        """Keep what an answer has grown by."""
        self._texts.setdefault(index, []).append(text)

    def inputs(self) -> list[dict[str, Any]]:
        """Return what was asked, as the conventions for generative AI write messages."""
        return [message for prompt in self._prompts for message in _messages(prompt)]

    def outputs(self, ends: Sequence[str]) -> list[dict[str, Any]]:
        """Return the answers in the same way, with how each ended."""
        reasons = dict(enumerate(ends))
        return [
            _message("assistant", "".join(texts)) | {"finish_reason": reasons.get(index, "")}
            for index, texts in sorted(self._texts.items())
        ]


def _messages(prompt: PromptInput) -> list[dict[str, Any]]:
    match prompt:
        case Conversation(messages):
            return [_turn(message) for message in messages]
        case Instruction(text) | RawText(text):
            return [_message("user", text)]
        case TokenIds(ids):
            return [_message("user", " ".join(map(str, ids)))]


def _turn(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        result = {"type": "tool_call_response", "response": message.content}
        return {"role": "tool", "parts": [result | {"id": message.tool_call_id}]}
    turn = _message(message.role, message.content)
    turn["parts"] += [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}
        for call in message.tool_calls
    ]
    return turn


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}
