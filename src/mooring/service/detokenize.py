"""Token ids to text as they come: whole characters only, ended before the first stop string."""

from collections.abc import Sequence

from mooring.generation import Tokenizer

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# A character has at most four bytes: four tokens later its fate is known.
_TOKENS_TO_SETTLE = 4

# Some decoders strip the first space, so that decoding must not begin with tokens without a text.
_MOST_WITHOUT_TEXT = 16


class IncrementalText:
    """The text of one growing sequence, released in pieces that join to the whole.

    A piece never ends inside a character, and text that may be the start of a stop string is held
    back until it is known not to be. Of several stop strings, the one that is complete first ends
    the text, is then `stopped_by`, and stays in the text with `keep_stop`; none is looked for in
    the text of the first `least_tokens`. `decoded` counts the characters that are known so far,
    those held back too.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str] = (),
        *,
        keep_stop: bool = False,
        least_tokens: int = 0,
    ) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._keep_stop = keep_stop
        self._least_tokens = least_tokens
        self._ids: list[int] = []
        self._context_start = 0
        self._pending_start = 0
        self._held = ""
        self.stopped_by: str | None = None
        self.decoded = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the text."""
        return self.stopped_by is not None

    def push(self, token_id: int) -> str:
        """Add one token and return the text it releases, often empty."""
        self._ids.append(token_id)
        return self._release(self._decode_pending(final=False), final=False)

    def push_text(self, text: str) -> str:
        """Add text that came without tokens, whole characters, and return what it releases."""
        return self._release(text, final=False)

    def finish(self) -> str:
        """Return what is still held back; the sequence has ended."""
        if self.stopped:
            return ""
        return self._release(self._decode_pending(final=True), final=True)

    def _decode_pending(self, *, final: bool) -> str:
        """Decode the tokens not yet shown, with those before them for spaces and merges."""
        end = len(self._ids)
        shown = len(self._decode(self._context_start, self._pending_start))
        text = self._decode(self._context_start, end)
        if text.endswith(_REPLACEMENT) and not final:
            return self._decode_broken(text, shown)
        if len(text) > shown or end - self._pending_start >= _MOST_WITHOUT_TEXT:
            self._context_start, self._pending_start = self._pending_start, end
        return text[shown:]

    def _decode_broken(self, text: str, shown: int) -> str:
        """Release what no later token can change: bytes that are no text would wait forever."""
        newest = len(self._ids) - _TOKENS_TO_SETTLE
        for split in range(newest, newest - _TOKENS_TO_SETTLE, -1):
            if split <= self._pending_start:
                break
            head = self._decode(self._context_start, split)
            if head + self._decode(split, len(self._ids)) == text:
                self._context_start = self._pending_start = split
                return head[shown:]
        return ""

    def _decode(self, start: int, end: int) -> str:
        return self._tokenizer.decode(self._ids[start:end])

    def _release(self, text: str, *, final: bool) -> str:
        self.decoded += len(text)
        early = 0 < len(self._ids) <= self._least_tokens
        if not self._stop or early:
            return text
        self._held += text
        found = ((stop, self._held.find(stop)) for stop in self._stop)
        ends = [(at + len(stop), at, stop) for stop, at in found if at >= 0]
        if ends:
            end, begin, self.stopped_by = min(ends)
            cut = end if self._keep_stop else begin
            released, self._held = self._held[:cut], ""
            return released
        keep = 0 if final else max(_overlap(self._held, stop) for stop in self._stop)
        cut = len(self._held) - keep
        released, self._held = self._held[:cut], self._held[cut:]
        return released


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` begin `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
