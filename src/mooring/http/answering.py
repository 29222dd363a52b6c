"""From a call to its answers, as every generating route needs them: whole, or begun."""

from dataclasses import dataclass
from itertools import chain

from mooring.protocol.call import Call
from mooring.service.stream import Completion, TextDelta, TextEnd, TextStream
from mooring.service.text_service import PreparedRequest, TextService


@dataclass(frozen=True, slots=True)
class Answered:
    """Whole answers, `n` per request, and how many tokens they took."""

    completions: list[list[Completion]]
    prompt_tokens: int

    @property
    def completion_tokens(self) -> int:
        """Count the generated tokens of all answers."""
        return sum(completion.tokens for completion in chain(*self.completions))


@dataclass(frozen=True, slots=True)
class Begun:
    """Answers that have begun: their first piece, and the stream of what follows."""

    first: TextDelta | TextEnd
    pieces: TextStream
    choices: int
    prompt_tokens: int


async def complete(service: TextService, call: Call) -> Answered:
    """Check every prompt, then generate all answers."""
    prepared = await _prepare(service, call)
    prompt_tokens = sum(len(request.prompt_ids) for request in prepared)
    return Answered(await service.complete_all(prepared), prompt_tokens)


async def begin(service: TextService, call: Call) -> Begun:
    """Check every prompt, then generate until there is a first piece, or raise why not."""
    prepared = await _prepare(service, call)
    pieces = service.start_all(prepared)
    return Begun(
        await anext(pieces),
        pieces,
        choices=sum(request.sampling.n for request in prepared),
        prompt_tokens=sum(len(request.prompt_ids) for request in prepared),
    )


async def _prepare(service: TextService, call: Call) -> list[PreparedRequest]:
    return await service.prepare_all(call.requests(service.sampling(call.parameters)))
