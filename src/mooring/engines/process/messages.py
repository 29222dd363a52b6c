"""What parent and child say to each other: typed messages, as length-framed MessagePack."""

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from mooring.engines.contract import Capabilities, Load
from mooring.engines.description import EngineDescription
from mooring.errors import EngineError, MooringError, RequestFailed, make_error
from mooring.generation import (
    Event,
    Failed,
    Finished,
    FinishReason,
    GenerationRequest,
    Likelihood,
    PromptRead,
    Started,
    Text,
    Token,
)

_LENGTH_BYTES = 4


class Trouble(Struct, tag=True, frozen=True):
    """A `MooringError` by the name of its class."""

    kind: str
    message: str
    param: str | None = None


class Taken(Struct, tag=True, frozen=True):
    """The engine begins with a sequence, and had read so many tokens of its prompt before."""

    cached_tokens: int


class Piece(Struct, tag=True, frozen=True):
    """Text of an answer, and how many tokens it is."""

    text: str
    tokens: int


Top = tuple[tuple[int, float], ...]


class Weighed(Struct, tag="w", frozen=True):
    """A token id, its log-probability, the most likely ones with theirs, and its rank."""

    id: int
    p: float
    top: Top
    rank: int | None = None


class Read(Struct, tag="r", frozen=True):
    """What is told of each token of a prompt, as of one that is generated."""

    told: list[tuple[float, Top, int | None]]


# A token id, weighed or not, text, that a sequence was taken up, that its prompt was read, how it
# finished, with how many cached tokens and by which token, or what failed.
Packed = int | Weighed | Read | Piece | Taken | tuple[FinishReason, int, int | None] | Trouble


class Open(Struct, tag=True, frozen=True):
    """Make and start this engine, and say every so many seconds how it is."""

    description: EngineDescription
    heartbeat_seconds: float


class Submit(Struct, tag=True, frozen=True):
    """Generate this."""

    request: GenerationRequest


class Cancel(Struct, tag=True, frozen=True):
    """Give this request up."""

    request_id: str


class Close(Struct, tag=True, frozen=True):
    """Free the model and end."""


class Opened(Struct, tag=True, frozen=True):
    """The engine runs."""

    capabilities: Capabilities


class Refused(Struct, tag=True, frozen=True):
    """The engine could not be started."""

    trouble: Trouble


class Heartbeat(Struct, tag=True, frozen=True):
    """What the engine holds now, and how many steps it has made."""

    load: Load


class Events(Struct, tag=True, frozen=True):
    """Events in order, each with its request."""

    load: Load
    events: list[tuple[str, Packed]]


class Logged(Struct, tag=True, frozen=True):
    """A line for the log, with the name of its logger and its level."""

    logger: str
    level: int
    text: str


Command = Open | Submit | Cancel | Close
Report = Opened | Refused | Heartbeat | Events | Logged
Message = TypeVar("Message")

COMMANDS: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
REPORTS: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)


def frame(message: Command | Report) -> bytes:
    """Return a message as it goes through the pipe."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class Frames(Generic[Message]):
    """Cuts what comes out of the pipe into messages."""

    def __init__(self, decoder: "msgspec.msgpack.Decoder[Message]") -> None:
        self._decoder = decoder
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take more bytes, and yield the messages that are complete now."""
        self._bytes += data
        while len(self._bytes) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._bytes[:_LENGTH_BYTES], "big")
            if len(self._bytes) < end:
                return
            body = bytes(self._bytes[_LENGTH_BYTES:end])
            del self._bytes[:end]
            yield self._decoder.decode(body)


def trouble_of(error: MooringError) -> Trouble:
    """Return an error as data."""
    return Trouble(type(error).__name__, error.message, error.param)


def error_of(trouble: Trouble) -> MooringError:
    """Return the error that `trouble` was made from."""
    return make_error(trouble.kind, trouble.message, param=trouble.param)


def pack(event: Event) -> Packed:
    """Return an event as data."""
    match event:
        case Token(id, likelihood):
            if likelihood is None:
                return id
            return Weighed(id, likelihood.logprob, likelihood.top, likelihood.rank)
        case Started(cached_tokens):
            return Taken(cached_tokens)
        case PromptRead(likelihoods):
            return Read([(one.logprob, one.top, one.rank) for one in likelihoods])
        case Text(text, tokens):
            return Piece(text, tokens)
        case Finished(reason, cached_tokens, end_token):
            return reason, cached_tokens, end_token
        case Failed(error):
            return trouble_of(error)


def unpack(data: Packed) -> Event:
    """Return the event that `data` was made from."""
    if isinstance(data, int):
        return Token(data)
    if isinstance(data, Weighed):
        return Token(data.id, Likelihood(data.p, data.top, data.rank))
    if isinstance(data, Read):
        return PromptRead(tuple(Likelihood(*one) for one in data.told))
    if isinstance(data, Piece):
        return Text(data.text, data.tokens)
    if isinstance(data, Taken):
        return Started(data.cached_tokens)
    if isinstance(data, Trouble):
        error = error_of(data)
        return Failed(error if isinstance(error, EngineError) else RequestFailed(error.message))
    return Finished(*data)
