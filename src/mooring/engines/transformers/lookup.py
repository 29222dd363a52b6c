"""Guesses what a text says next from what it has said before."""

_LENGTHS = (3, 2)


class Lookup:
    """Remembers how every two and three tokens of `ids`, a list that grows, went on last."""

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids
        self._read = 0
        self._next: dict[tuple[int, ...], int] = {}

    def guess(self, most: int) -> list[int]:
        """Return up to `most` tokens that followed the last three, or else two, before."""
        self._remember()
        for length in _LENGTHS:
            begin = self._next.get(tuple(self._ids[-length:]))
            if begin is not None:
                # What reaches the end goes on in a circle: a text that repeats itself does.
                around = len(self._ids) - begin
                return [self._ids[begin + place % around] for place in range(most)]
        return []

    def _remember(self) -> None:
        for place in range(self._read, len(self._ids)):
            for length in _LENGTHS:
                if place >= length:
                    self._next[tuple(self._ids[place - length : place])] = place
        self._read = len(self._ids)
