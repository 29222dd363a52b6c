"""The work list: the same lengths for everything that is measured, new tokens in every run."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

SINGLE, FIRST_TOKEN = "single", "first token"
SHORTER = 8

_SEED = 1234
_FIRST_PLAIN_ID = 5  # below are the special tokens of most vocabularies


@dataclass(frozen=True, slots=True)
class Work:
    """One request: the lengths of its prompt and of its answer, in tokens."""

    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """Requests that are sent at once."""

    name: str
    work: tuple[Work, ...]

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(item.prompt_tokens for item in self.work)

    @property
    def output_tokens(self) -> int:
        """Tokens of all answers."""
        return sum(item.output_tokens for item in self.work)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt with its answer."""
        return max(item.prompt_tokens + item.output_tokens for item in self.work)

    def shortened(self) -> "Scenario":
        """Return the same requests with an eighth of their lengths."""
        work = tuple(
            Work(max(1, item.prompt_tokens // SHORTER), max(1, item.output_tokens // SHORTER))
            for item in self.work
        )
        return Scenario(self.name, work)


def work_list(concurrency: Sequence[int] = (8, 32), *, quick: bool = False) -> list[Scenario]:
    """Return one stream alone, one long prompt, and `concurrency` requests at once for each.

    With `quick` every length is an eighth.
    """
    scenarios = [
        Scenario(SINGLE, (Work(64, 128),)),
        Scenario(FIRST_TOKEN, (Work(512, 1),)),
        *map(at_once, concurrency),
    ]
    return [scenario.shortened() for scenario in scenarios] if quick else scenarios


def at_once(count: int) -> Scenario:
    """Return `count` requests with prompts of 16 to 256 tokens that want 16 to 128 more."""
    draw = random.Random(_SEED)
    work = tuple(Work(draw.randint(16, 256), draw.randint(16, 128)) for _ in range(count))
    return Scenario(f"{count} at once", work)


def prompts(scenario: Scenario, run: int, vocabulary_size: int) -> list[tuple[int, ...]]:
    """Return the token ids of each prompt; others in every run, so that no cache has seen them."""
    draw = random.Random(f"{_SEED} {scenario.name} {run}")
    ids = range(_FIRST_PLAIN_ID, vocabulary_size)
    return [tuple(draw.choices(ids, k=item.prompt_tokens)) for item in scenario.work]
