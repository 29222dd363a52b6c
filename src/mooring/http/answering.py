"""From a call to its answers, as every generating route needs them: whole, or begun."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from mooring.errors import MooringError
from mooring.observe.record import RequestRecord
from mooring.protocol.call import Call
from mooring.service.best import best_of, check_best
from mooring.service.callers import Caller, Reservation
from mooring.service.stream import Completion, TextDelta, TextEnd, TextStream
from mooring.service.text_service import PreparedRequest, TextService


@dataclass(frozen=True, slots=True)
class Answered:
    """Whole answers, those of each prompt, and how many tokens they and those left out took."""

    prompt_ids: list[tuple[int, ...]]
    completions: list[list[Completion]]
    prompt_tokens: int
    completion_tokens: int

    @property
    def cached_tokens(self) -> int:
        """Count the prompt tokens that were read before: a prompt's first answer reads it."""
        return sum(answers[0].cached_tokens for answers in self.completions)


@dataclass(frozen=True, slots=True)
class Begun:
    """Answers that have begun: their first piece, and the stream of what follows.

    There are `per_prompt` choices for each prompt.
    """

    first: TextDelta | TextEnd
    pieces: TextStream
    per_prompt: int
    prompt_ids: list[tuple[int, ...]]
    reservation: Reservation

    @property
    def choices(self) -> int:
        """Count the answers."""
        return self.per_prompt * len(self.prompt_ids)

    @property
    def prompt_tokens(self) -> int:
        """Count the tokens of the prompts."""
        return sum(len(ids) for ids in self.prompt_ids)

    @property
    def cached_tokens(self) -> int:
        """Count the prompt tokens that were read before: a prompt's first answer reads it."""
        return sum(self.pieces.cached_tokens[:: self.per_prompt])


async def complete(
    service: TextService, call: Call, caller: Caller, record: RequestRecord
) -> Answered:
    """Check every prompt, then generate all answers.

    A client that leaves before the end has used all that was reserved for it.
    """
    prepared = await _prepare(service, call, record)
    reservation = caller.reserve(_most_tokens(prepared))
    try:
        completions = await service.complete_all(prepared, record)
        answered = _answered(call, prepared, completions)
        _keep(answered, record)
    except MooringError:
        reservation.settle(0)
        raise
    reservation.settle(answered.prompt_tokens + answered.completion_tokens)
    return answered


async def begin(service: TextService, call: Call, caller: Caller, record: RequestRecord) -> Begun:
    """Check every prompt, then generate until there is a first piece, or raise why not."""
    prepared = await _prepare(service, call, record)
    reservation = caller.reserve(_most_tokens(prepared))
    try:
        pieces = service.start_all(prepared, record)
        first = await anext(pieces)
    except MooringError:
        reservation.settle(0)
        raise
    per_prompt = prepared[0].sampling.n
    prompt_ids = [request.prompt_ids for request in prepared]
    return Begun(first, pieces, per_prompt, prompt_ids, reservation)


def _answered(
    call: Call, prepared: Sequence[PreparedRequest], completions: list[list[Completion]]
) -> Answered:
    tokens = sum(completion.tokens for completion in chain(*completions))
    if call.best_of is not None:
        completions = [
            best_of(
                rivals,
                call.parameters["n"],
                skipped=0 if request.echo is None else len(request.echo.tokens),
                told=call.logprobs.answer is not None,
            )
            for request, rivals in zip(prepared, completions, strict=True)
        ]
    prompt_ids = [request.prompt_ids for request in prepared]
    return Answered(prompt_ids, completions, _prompt_tokens(prepared), tokens)


def _prompt_tokens(prepared: Sequence[PreparedRequest]) -> int:
    return sum(len(request.prompt_ids) for request in prepared)


def _most_tokens(prepared: Sequence[PreparedRequest]) -> int:
    """Count the prompts, and the answers at their longest."""
    answers = sum((request.sampling.max_tokens or 0) * request.sampling.n for request in prepared)
    return _prompt_tokens(prepared) + answers


def _keep(answered: Answered, record: RequestRecord) -> None:
    if record.content is not None:
        for index, completion in enumerate(chain(*answered.completions)):
            record.content.add(index, completion.text)


async def _prepare(
    service: TextService, call: Call, record: RequestRecord
) -> list[PreparedRequest]:
    if record.content is not None:
        record.content.ask(call.prompts)
    if call.best_of is not None:
        check_best(call.best_of, service)
    return await service.prepare_all(call.requests(service.sampling(call.parameters)))
