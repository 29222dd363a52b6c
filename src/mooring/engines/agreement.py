"""Compares an engine with golden answers: the same tokens, or others within a stated tolerance."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from mooring.engines.contract import Capabilities, Engine
from mooring.generation import (
    Event,
    Failed,
    Finished,
    GenerationRequest,
    Golden,
    GoldenAnswer,
    SamplingParams,
    Text,
    Token,
)

# How far below the best token, in spreads of the logits, another one may be and still be taken.
# In full precision only ties may fall either way; rounding moves logits by about a percent of
# their spread, 8-bit weights by several, 4-bit weights by tens.
TOLERANCES = {"float32": 0.002, "bfloat16": 0.1, "float16": 0.1, "int8": 0.3, "int4": 1.0}
_ROUNDED = 0.1
# An engine that is right parts where two tokens are nearly equal, which is not everywhere.
_MOST_PARTINGS = 0.5


@dataclass(frozen=True, slots=True)
class Parting:
    """Where an engine took another token than the golden one.

    `position` counts within answer `answer`; `given` is None if the engine ended there; `gap` is
    how many spreads the given token lies below the expected one, None if it is not among the best.
    """

    answer: int
    position: int
    expected: int
    given: int | None
    gap: float | None
    tolerated: bool


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a comparison found over `tokens` tokens; `tolerance` is in spreads of the logits."""

    tokens: int
    tolerance: float
    partings: tuple[Parting, ...]

    @property
    def agrees(self) -> bool:
        """Whether every token was the golden one or close enough, and most were the golden one."""
        few = len(self.partings) <= _MOST_PARTINGS * self.tokens
        return few and all(parting.tolerated for parting in self.partings)

    @property
    def first_wrong(self) -> Parting | None:
        """Return the first parting that is not tolerated, or the first if they are too many."""
        wrong = (parting for parting in self.partings if not parting.tolerated)
        return next(wrong, None if self.agrees else self.partings[0])


def tolerance_of(precision: str, golden_precision: str) -> float:
    """Return the tolerance for an engine that computes in `precision`; unknown ones may round.

    Of several in its words, such as `int8 weights in bfloat16`, the least exact counts.
    """
    texts = (precision, golden_precision)
    return max(
        max((TOLERANCES[word] for word in text.split() if word in TOLERANCES), default=_ROUNDED)
        for text in texts
    )


def compare(
    engine: Engine,
    capabilities: Capabilities,
    golden: Golden,
    end_token_ids: Collection[int] = (),
) -> Agreement:
    """Let a started engine answer the golden prompts, side by side, and compare token by token.

    Where it parts it is put back on the golden path, so that later tokens are compared too.
    Prompts that do not fit its context are left out, and what follows an end token where it
    cannot go on past one; an engine that says text instead of tokens is compared on none. Raises
    what the engine fails with.
    """
    goes_on = "ignore_eos" not in capabilities.unsupported
    answers = [a if goes_on else _until_end(a, end_token_ids) for a in golden.answers]
    tolerance = tolerance_of(capabilities.precision, golden.precision)
    room = capabilities.context_length
    pending = [
        (number, 0)
        for number, answer in enumerate(answers)
        if answer.steps and len(answer.prompt_ids) + len(answer.steps) <= room
    ]
    tokens = sum(len(answers[number].steps) for number, _ in pending)
    partings: list[Parting] = []
    while pending:
        given = _ask(engine, [(answers[number], begin) for number, begin in pending], goes_on)
        if given is None:
            return Agreement(0, tolerance, ())
        found = [
            parting
            for (number, begin), ids in zip(pending, given, strict=True)
            if (parting := _first_parting(number, answers[number], begin, ids, tolerance))
        ]
        partings += found
        pending = [
            (parting.answer, parting.position + 1)
            for parting in found
            if parting.position + 1 < len(answers[parting.answer].steps)
        ]
    return Agreement(tokens, tolerance, tuple(sorted(partings, key=_place)))


def _until_end(answer: GoldenAnswer, end_token_ids: Collection[int]) -> GoldenAnswer:
    ids = answer.token_ids
    length = next((at for at, token in enumerate(ids) if token in end_token_ids), len(ids))
    return GoldenAnswer(answer.prompt_ids, answer.steps[:length])


def _place(parting: Parting) -> tuple[int, int]:
    return parting.answer, parting.position


def _first_parting(
    number: int, answer: GoldenAnswer, begin: int, given: Sequence[int], tolerance: float
) -> Parting | None:
    for position in range(begin, len(answer.steps)):
        step = answer.steps[position]
        token_id = given[position - begin] if position - begin < len(given) else None
        if token_id == step.token_id:
            continue
        gap = None if token_id is None else step.gap(token_id)
        tolerated = gap is not None and gap <= tolerance
        return Parting(number, position, step.token_id, token_id, gap, tolerated)
    return None


def _ask(
    engine: Engine, asked: Sequence[tuple[GoldenAnswer, int]], ignore_eos: bool
) -> list[list[int]] | None:
    """Return the tokens that follow the first golden ones of each answer; None if it says text."""
    events: SimpleQueue[tuple[int, Event]] = SimpleQueue()
    for index, (answer, begin) in enumerate(asked):
        sampling = SamplingParams(
            max_tokens=len(answer.steps), temperature=0.0, ignore_eos=ignore_eos
        )
        request = GenerationRequest(
            id=f"golden-{index}-{begin}",
            prompt_ids=answer.prompt_ids,
            sampling=sampling,
            generated_ids=answer.token_ids[:begin],
            needs_ids=True,
        )
        engine.submit(request, lambda event, index=index: events.put((index, event)))  # type: ignore[misc]
    answers: list[list[int]] = [[] for _ in asked]
    running, says_text = len(asked), False
    while running:
        index, event = events.get()
        match event:
            case Token(id):
                answers[index].append(id)
            case Text():
                says_text = True
            case Failed(error):
                raise error
            case Finished():
                running -= 1
    return None if says_text else answers
