"""What can be measured: the one small protocol that engines and servers are put behind."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: the token ids of its prompt, and how many more are wanted.

    It is sent `after` so many seconds; those of one call come in order.
    """

    prompt: tuple[int, ...]
    output_tokens: int
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """When an answer was asked for and when its pieces came, in seconds of one clock.

    `tokens` may be more than there are pieces: a server may put several into one. `ids` are the
    generated tokens where they can be seen.
    """

    asked: float
    pieces: tuple[float, ...]
    tokens: int
    ids: tuple[int, ...] = ()


class Target(Protocol):
    """Something that answers; used by one thread."""

    name: str

    def open(self) -> dict[str, str]:
        """Load or connect, and return what is worth knowing about it, as shown to people."""

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        """Send everything, each at its time, and wait for all ends; raise `MooringError`."""

    def processes(self) -> list[int]:
        """Return the process ids whose memory is this target's; none where unknown."""

    def close(self) -> None:
        """Free everything; safe to call twice, and without `open`."""
