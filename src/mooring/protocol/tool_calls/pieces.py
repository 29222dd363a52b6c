"""What an answer with calls of tools is made of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SaidText:
    """Text that belongs to no call; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A call of the function `name` begins; its arguments follow."""

    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next part of the arguments, JSON text as the model wrote it; never empty."""

    text: str


Piece = SaidText | CallStart | CallArguments
