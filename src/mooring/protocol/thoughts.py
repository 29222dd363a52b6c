"""Tells what a model thinks from what it says: `<think>...</think>` and then the answer.

However the text is cut into pieces, the result is the same. White space around thoughts belongs to
neither.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mooring.generation.thoughts import CLOSES, OPENS
from mooring.protocol.tool_calls.pieces import SaidText

MARKS = (OPENS, CLOSES)
"""Tags that are text even where they are special tokens."""


@dataclass(frozen=True, slots=True)
class Thought:
    """What the model thinks before it says something."""

    text: str


class ThoughtReader:
    """Reads one answer; `thinking` where its prompt ended within a thought."""

    def __init__(self, *, thinking: bool) -> None:
        self._unread = ""
        self._pieces: list[Thought | SaidText] = []
        self._state: Callable[[bool], bool] = self._at_start
        if thinking:
            self._state = self._before_thought

    def push(self, text: str) -> list[Thought | SaidText]:
        """Add what the model wrote next, and return what is sure now."""
        self._unread += text
        return self._read(final=False)

    def finish(self) -> list[Thought | SaidText]:
        """Return what is left; the answer has ended."""
        return self._read(final=True)

    def _read(self, *, final: bool) -> list[Thought | SaidText]:
        while self._state(final):
            pass
        pieces, self._pieces = self._pieces, []
        return pieces

    def _at_start(self, final: bool) -> bool:
        text = self._unread.lstrip()
        if text.startswith(OPENS):
            self._unread, self._state = text.removeprefix(OPENS), self._before_thought
            return True
        if not final and OPENS.startswith(text):
            return False
        self._state = self._in_answer
        return True

    def _before_thought(self, final: bool) -> bool:
        self._unread = self._unread.lstrip()
        if self._unread:
            self._state = self._in_thought
        return bool(self._unread)

    def _in_thought(self, final: bool) -> bool:
        thought, closing, rest = self._unread.partition(CLOSES)
        if closing:
            self._think(thought.rstrip())
            self._unread, self._state = rest, self._before_answer
            return True
        kept = 0 if final else _overlap(thought)
        sure = thought[: len(thought) - kept].rstrip()
        self._think(sure)
        self._unread = "" if final else thought[len(sure) :]
        return False

    def _before_answer(self, final: bool) -> bool:
        self._unread = self._unread.lstrip()
        if self._unread:
            self._state = self._in_answer
        return bool(self._unread)

    def _in_answer(self, final: bool) -> bool:
        if self._unread:
            self._pieces.append(SaidText(self._unread))
        self._unread = ""
        return False

    def _think(self, text: str) -> None:
        if text:
            self._pieces.append(Thought(text))


def _overlap(text: str) -> int:
    """Return how many characters at the end of `text` begin the closing tag."""
    lengths = range(min(len(text), len(CLOSES) - 1), 0, -1)
    return next((length for length in lengths if text.endswith(CLOSES[:length])), 0)
