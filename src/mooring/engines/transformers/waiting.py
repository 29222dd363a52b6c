"""The rows that wait to be read: short ones first, and none is overtaken for ever."""

from bisect import insort

from mooring.engines.transformers.row import Row


class Waiting:
    """A queue of rows, each due when as many tokens have been read as it has itself.

    So a short prompt need not wait for a long one that came at the same time, while a long one is
    overtaken only until as many tokens have been read as it has. What was put back comes first.
    """

    def __init__(self) -> None:
        self._read = 0
        self._put_back: list[Row] = []
        self._queue: list[tuple[int, int, Row]] = []

    def __bool__(self) -> bool:
        return bool(self._put_back or self._queue)

    def add(self, row: Row) -> None:
        """Queue a newcomer."""
        insort(self._queue, (self._read + len(row.ids), row.number, row), key=lambda item: item[:2])

    def put_back(self, row: Row) -> None:
        """Queue a row that has begun, the oldest of its kind first."""
        insort(self._put_back, row, key=lambda other: other.number)

    @property
    def first(self) -> Row | None:
        """The row whose turn it is."""
        if self._put_back:
            return self._put_back[0]
        return self._queue[0][2] if self._queue else None

    def take(self) -> Row:
        """Remove the first row and return it."""
        return self._put_back.pop(0) if self._put_back else self._queue.pop(0)[2]

    def read(self, tokens: int) -> None:
        """Note that so many tokens of prompts have been read."""
        self._read += tokens

    def forget_ended(self) -> None:
        """Drop the rows that have ended."""
        self._put_back = [row for row in self._put_back if not row.sequence.ended]
        self._queue = [item for item in self._queue if not item[2].sequence.ended]
