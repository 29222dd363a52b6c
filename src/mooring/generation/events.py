"""What an engine says about one sequence while it runs."""

from dataclasses import dataclass
from typing import Literal

from mooring.errors import MooringError
from mooring.generation.logprobs import Likelihood

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
    """One generated token id, with its likelihood if asked for; the end token is never sent."""

    id: int
    likelihood: Likelihood | None = None


@dataclass(frozen=True, slots=True)
class PromptRead:
    """How likely the tokens of the prompt are, from the first one asked for on.

    Comes once, before anything else, where it was asked for.
    """

    likelihoods: tuple[Likelihood, ...]


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
    `end_token` is the one it ended by, where the engine knows.
    """

    reason: FinishReason
    cached_tokens: int = 0
    end_token: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The sequence ended with an error; nothing more comes."""

    error: MooringError


Event = Started | PromptRead | Token | Text | Finished | Failed
