"""The calls of Llama 3: `{"name": ..., "parameters": ...}` as the whole answer, or after a tag."""

from mooring.protocol.tool_calls.parser import CallParser

_TAG = "<|python_tag|>"


class Llama3Parser(CallParser):
    """Reads bare objects at the beginning or after the tag; `;` stands between several."""

    markers = (_TAG,)

    def _find_opening(self) -> tuple[int, int] | None:
        body = self._unread.lstrip()
        if self._only_calls and not self._called and body.startswith("{"):
            return len(self._unread) - len(body), 0
        return super()._find_opening()

    def _after_call(self, final: bool) -> bool:
        rest = self._unread.lstrip()
        following = rest[1:].lstrip()
        before = len(self._unread) - len(following)
        if rest.startswith(";") and following.startswith("{"):
            self._open(before)
        elif rest.startswith(";") and following.startswith(_TAG):
            self._open(before + len(_TAG))
        elif not final and (not rest or (rest.startswith(";") and _TAG.startswith(following))):
            return False
        else:
            return self._back_to_text()
        return True
