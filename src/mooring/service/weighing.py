"""How likely a model finds each of several answers to a question, as shares of all of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, takewhile

from mooring.errors import InvalidInput
from mooring.generation import Conversation, LogprobsWanted, SamplingParams
from mooring.observe.record import RequestRecord
from mooring.service.stream import Completion
from mooring.service.text_service import PreparedRequest, TextService

MAX_ANSWERS = 2048
"""Answers that one call may have weighed, of all its questions."""

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choices:
    """A question and the answers to choose from."""

    question: Conversation
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadChoices:
    """The tokens of a question with each of its answers; they differ from place `begin` on."""

    begin: int
    answers: tuple[Ids, ...]

    @property
    def tokens(self) -> int:
        """Count the tokens of the question once, and those of each answer."""
        return self.begin + sum(len(ids) - self.begin for ids in self.answers)


@dataclass(frozen=True, slots=True)
class Weighed:
    """The probability of each answer among all of them, in order."""

    probabilities: tuple[float, ...]
    cached_tokens: int


async def read_choices(service: TextService, choices: Sequence[Choices]) -> list[ReadChoices]:
    """Put every question into tokens, once with each answer; raise `InvalidInput`."""
    count = sum(len(one.answers) for one in choices)
    if count > MAX_ANSWERS:
        raise InvalidInput(
            f"One call may have at most {MAX_ANSWERS} answers weighed, of all its questions. "
            f"Given: {count}. Send several calls.",
            param="questions",
        )
    return [await _read(service, one, number) for number, one in enumerate(choices)]


async def weigh(
    service: TextService, read: Sequence[ReadChoices], record: RequestRecord
) -> list[Weighed]:
    """Read every answer after its question, and compare how likely the model finds them.

    The engine reads a question once, as far as it keeps what it has read. Raises what
    `TextService.complete_all` raises.
    """
    prepared = [_prepared(one.begin, ids) for one in read for ids in one.answers]
    told = iter([answers[0] for answers in await service.complete_all(prepared, record)])
    return [_weighed(one, [next(told) for _ in one.answers]) for one in read]


async def _read(service: TextService, choices: Choices, number: int) -> ReadChoices:
    """An answer is tokenized with its question: tokens may reach across their border."""
    bare = (await service.read(choices.question)).token_ids
    answers = []
    for answer in choices.answers:
        question = replace(choices.question, opening=answer)
        answers.append((await service.read(question)).token_ids)
    begin = max(1, min(_common(bare, ids) for ids in answers))
    rests = [ids[begin:] for ids in answers]
    if not all(rests) or len(set(rests)) < len(rests):
        raise InvalidInput(
            f"The answers of `questions[{number}]` must be told apart by their tokens. Given: two "
            "that have the same, or one that has none.",
            param=f"questions[{number}]",
        )
    return ReadChoices(begin, tuple(answers))


def _common(one: Ids, other: Ids) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _prepared(begin: int, ids: Ids) -> PreparedRequest:
    return PreparedRequest(
        ids,
        SamplingParams(max_tokens=0),
        logprobs=LogprobsWanted(prompt=0, prompt_begin=begin),
    )


def _weighed(read: ReadChoices, told: Sequence[Completion]) -> Weighed:
    logprobs = [sum(token.logprob for token in one.prompt) for one in told]
    rests = [ids[read.begin :] for ids in read.answers]
    # Whichever answer was read first has read the question for the others.
    return Weighed(shares(rests, logprobs), min(one.cached_tokens for one in told))


def shares(answers: Sequence[Ids], logprobs: Sequence[float]) -> tuple[float, ...]:
    """Return the probability of each answer among all, from those of its tokens.

    Where an answer begins like a longer one, the longer one's probability is not its own.
    """
    best = max(logprobs)
    weights = [math.exp(logprob - best) for logprob in logprobs]
    for place in sorted(range(len(answers)), key=lambda place: -len(answers[place])):
        own = answers[place]
        longer = (
            weights[other]
            for other, ids in enumerate(answers)
            if len(ids) > len(own) and ids[: len(own)] == own
        )
        weights[place] = max(0.0, weights[place] - sum(longer))
    total = sum(weights)
    return tuple(weight / total if total else 1 / len(weights) for weight in weights)


def question_tokens(read: Sequence[ReadChoices]) -> int:
    """Count the tokens of all questions and answers."""
    return sum(chain(one.tokens for one in read))
