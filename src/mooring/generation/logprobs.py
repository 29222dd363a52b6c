"""How likely tokens are: what is asked for, and what engines and services say."""

from dataclasses import dataclass

MAX_TOP_LOGPROBS = 20
# JSON knows no infinity: what cannot come has this log-probability.
LEAST_LOGPROB = -9999.0


@dataclass(frozen=True, slots=True)
class LogprobsWanted:
    """Of which tokens the log-probabilities are wanted, each with how many of the most likely ones.

    `answer` and `prompt` are None for none, else 0 to `MAX_TOP_LOGPROBS`. Those of the prompt are
    of its tokens from place `prompt_begin` (at least 1) on: nothing comes before the first token.
    """

    answer: int | None = None
    prompt: int | None = None
    prompt_begin: int = 1


NO_LOGPROBS = LogprobsWanted()


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The natural logarithm of a token's probability where it stands, and the most likely tokens
    there, each with its own, best first.

    By the model's raw scores: before bias, penalties, temperature and all other parameters. `rank`
    counts the tokens that are no less likely there, itself too; None where that is not known.
    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class RivalToken:
    """One of the most likely tokens where another may stand; `raw` are its own bytes."""

    id: int
    raw: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TextToken:
    """A token as a client sees it.

    `raw` are its own bytes, which may be part of a character; `offset` is where its text begins in
    the whole text, in characters. `logprob` is None for the first token of a prompt. `top` are the
    most likely tokens there, best first, and `rank` is as in `Likelihood`.
    """

    id: int
    raw: bytes
    offset: int
    logprob: float | None = None
    top: tuple[RivalToken, ...] = ()
    rank: int | None = None
