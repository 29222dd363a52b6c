"""Reads an answer piece by piece: text goes out as it comes, calls as soon as they are sure.

However the text is cut into pieces, the result is the same. What looks like the beginning of a call
and turns out to be none is given as text, so no character is lost. White space with nothing but
calls around it belongs to them.

An eager parser, for streams, gives a call once it has seen the name and the beginning of the
arguments. One that is not eager waits for the end and gives what is not valid JSON as text.
"""

from collections.abc import Callable
from typing import ClassVar

from mooring.protocol.tool_calls.json_call import (
    Balance,
    may_become_call,
    read_call,
    read_head,
)
from mooring.protocol.tool_calls.pieces import CallArguments, CallStart, Piece, SaidText

State = Callable[[bool], bool]


class CallParser:
    """A parser of one answer, whose states take the front of what is not read yet.

    A state returns whether it got anywhere; told that the answer is final, it must not wait.
    `markers` begin a call, `closing` ends it.
    """

    markers: ClassVar[tuple[str, ...]] = ()
    closing: ClassVar[str] = ""

    def __init__(self, *, eager: bool) -> None:
        self._eager = eager
        self._unread = ""
        self._state: State = self._in_text
        self._pieces: list[Piece] = []
        self._space = ""
        self._only_calls = True
        self._called = False
        self._opening_length = 0
        self._balance = Balance()

    def push(self, text: str) -> list[Piece]:
        """Add what the model said next, and return what is sure now."""
        self._unread += text
        return self._read(final=False)

    def finish(self) -> list[Piece]:
        """Return what is left; the answer has ended."""
        return self._read(final=True)

    def _read(self, *, final: bool) -> list[Piece]:
        while self._state(final):
            pass
        if final and self._space and not self._called:
            self._pieces.append(SaidText(self._space))
        pieces, self._pieces = self._pieces, []
        return pieces

    def _in_text(self, final: bool) -> bool:
        found = self._find_opening()
        if found is None:
            kept = 0 if final else max(_overlap(self._unread, mark) for mark in self.markers)
            self._say(self._take(len(self._unread) - kept))
            return False
        start, length = found
        self._say(self._take(start))
        self._open(length)
        return True

    def _find_opening(self) -> tuple[int, int] | None:
        """Return where the first call may begin, and how long its marker is."""
        found = [(at, len(mark)) for mark in self.markers if (at := self._unread.find(mark)) >= 0]
        return min(found, default=None)

    def _open(self, length: int) -> None:
        """Look at what follows the next `length` characters for a call."""
        self._opening_length = length
        self._balance = Balance(length)
        self._state = self._at_call

    def _at_call(self, final: bool) -> bool:
        return self._at_object(final)

    def _at_object(self, final: bool) -> bool:
        """Read `{"name": ..., "arguments": {...}}`, with its keys in any order."""
        start = self._opening_length
        body = self._unread[start:]
        if not may_become_call(body):
            return self._no_call()
        head = read_head(body) if self._eager else None
        if head is not None:
            return self._begin_arguments(head.name, start + head.end, self._after_arguments)
        end = self._balance.end(self._unread) if body.strip() else None
        if end is None:
            return self._no_call() if final else False
        call = read_call(self._unread[start:end])
        if call is None:
            return self._no_call()
        return self._whole_call(*call, end)

    def _no_call(self) -> bool:
        self._say(self._take(max(self._opening_length, 1)))
        self._state = self._in_text
        return True

    def _whole_call(self, name: str, arguments: str, end: int) -> bool:
        self._call(name)
        self._pieces.append(CallArguments(arguments))
        self._take(end)
        self._state = self._after_call
        return True

    def _begin_arguments(self, name: str, start: int, afterwards: State) -> bool:
        self._call(name)
        self._take(start)
        self._balance = Balance()
        self._afterwards = afterwards
        self._state = self._in_arguments
        return True

    def _in_arguments(self, final: bool) -> bool:
        end = self._balance.end(self._unread)
        text = self._take(len(self._unread) if end is None else end)
        self._balance.at = 0
        if text:
            self._pieces.append(CallArguments(text))
        if end is not None:
            self._state = self._afterwards
        return end is not None

    def _after_arguments(self, final: bool) -> bool:
        """Read the rest of a call's object; one that lacks its end is taken as ended."""
        rest = self._unread.lstrip()
        if not rest:
            return self._back_to_text() if final else False
        if rest[0] not in ",}":
            self._state = self._after_call
            return True
        end = Balance(depth=1).end(rest)
        if end is None:
            return self._back_to_text() if final else False
        self._take(len(self._unread) - len(rest) + end)
        self._state = self._after_call
        return True

    def _after_call(self, final: bool) -> bool:
        """Read what closes a call, where the model wrote it."""
        rest = self._unread.lstrip()
        if rest.startswith(self.closing):
            self._take(len(self._unread) - len(rest) + len(self.closing))
        elif not final and self.closing.startswith(rest):
            return False
        return self._back_to_text()

    def _back_to_text(self) -> bool:
        self._state = self._in_text
        return bool(self._unread)

    def _call(self, name: str) -> None:
        self._space, self._only_calls, self._called = "", True, True
        self._pieces.append(CallStart(name))

    def _say(self, text: str) -> None:
        if self._only_calls:
            self._space += text
            if not self._space.strip():
                return
            text, self._space, self._only_calls = self._space, "", False
        if text:
            self._pieces.append(SaidText(text))

    def _take(self, length: int) -> str:
        taken, self._unread = self._unread[:length], self._unread[length:]
        return taken


def _overlap(text: str, marker: str) -> int:
    """Return how many characters at the end of `text` begin `marker`."""
    for length in range(min(len(text), len(marker) - 1), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0
