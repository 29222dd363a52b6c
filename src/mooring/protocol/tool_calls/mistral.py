"""The calls of Mistral: `[TOOL_CALLS][{...}, {...}]`, and newer `[TOOL_CALLS]name{...}`."""

import re

from mooring.protocol.tool_calls.json_call import Balance, read_object
from mooring.protocol.tool_calls.parser import CallParser

# Between name and arguments some models write a call's id, and a mark.
_NAME = re.compile(
    r"\s*([A-Za-z0-9_.-]{1,64})\s*(?:\[CALL_ID\]\s*[A-Za-z0-9_-]{1,64}\s*)?(?:\[ARGS\]\s*)?"
)
_NAME_SO_FAR = re.compile(r"[A-Za-z0-9_.\-\[\]\s]{0,200}")


class MistralParser(CallParser):
    """Reads a list of objects with `name` and `arguments`, or names with their arguments."""

    markers = ("[TOOL_CALLS]",)

    def _at_call(self, final: bool) -> bool:
        rest = self._unread[self._opening_length :].lstrip()
        if not rest:
            return self._no_call() if final else False
        if rest[0] == "[":
            self._open(len(self._unread) - len(rest) + 1)
            self._state = self._at_object
        else:
            self._state = self._at_name
        return True

    def _at_name(self, final: bool) -> bool:
        start = self._opening_length
        brace = self._unread.find("{", start)
        if brace < 0:
            waits = not final and _NAME_SO_FAR.fullmatch(self._unread, start) is not None
            return False if waits else self._no_call()
        name = _NAME.fullmatch(self._unread, start, brace)
        if name is None:
            return self._no_call()
        if self._eager:
            return self._begin_arguments(name[1], brace, self._after_named_call)
        end = Balance(brace).end(self._unread)
        if end is None:
            return self._no_call() if final else False
        if read_object(self._unread[brace:end]) is None:
            return self._no_call()
        self._whole_call(name[1], self._unread[brace:end], end)
        self._state = self._after_named_call
        return True

    def _after_named_call(self, final: bool) -> bool:
        return self._back_to_text()

    def _after_call(self, final: bool) -> bool:
        """Read what follows an object of the list: another one, or the list's end."""
        rest = self._unread.lstrip()
        following = rest[1:].lstrip()
        if rest.startswith(",") and following.startswith("{"):
            self._open(len(self._unread) - len(following))
            self._state = self._at_object
            return True
        if not final and rest in ("", ","):
            return False
        if not final and rest.startswith(",") and not following:
            return False
        if rest.startswith("]"):
            self._take(len(self._unread) - len(rest) + 1)
        return self._back_to_text()
