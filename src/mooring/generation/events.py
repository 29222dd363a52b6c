"""What an engine says about one sequence while it runs."""

from dataclasses import dataclass
from typing import Literal

from mooring.errors import MooringError

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Started:
    """The engine begins with the sequence, which has waited until now.

    `cached_tokens` counts tokens of the prompt that the engine had read before, for others, as far
    as it knows by then.
    """

    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token id; the end token itself is never sent."""

    id: int


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of an answer from an engine that knows its text and not its token ids.

    `tokens` is how many tokens the answer has grown by, as far as is known then; an empty piece
    only corrects the count.
    """

    text: str
    tokens: int = 1


@dataclass(frozen=True, slots=True)
class Finished:
    """The sequence ended: `stop` by its end token, `length` at its limit, or `cancelled`.

    `cached_tokens` counts tokens of the prompt that the engine had read before, for others.
    """

    reason: FinishReason
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """The sequence ended with an error; nothing more comes."""

    error: MooringError


Event = Started | Token | Text | Finished | Failed
