"""What is known about one request, filled in while it is answered; never holds prompts."""

import time
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from mooring.generation import SamplingParams
from mooring.observe.content import Content

End = Literal["stop", "length", "abort", "error"]
ENDS: tuple[End, ...] = get_args(End)
"""How a sequence ended: by itself, at its limit, given up with its request, or by a failure."""


class Meter(Protocol):
    """Hears of sequences while they are generated, in the event loop; each call must be quick."""

    def started(self, sequence: "SequenceRecord") -> None:
        """The engine has begun with a sequence."""

    def grew(self, sequence: "SequenceRecord", tokens: int, seconds: float) -> None:
        """A sequence has `tokens` more, `seconds` after the last ones, or after it was sent."""

    def ended(self, sequence: "SequenceRecord") -> None:
        """A sequence has ended."""


class Unmetered:
    """Hears nothing: for use without a server."""

    def started(self, sequence: "SequenceRecord") -> None:
        """Ignore it."""

    def grew(self, sequence: "SequenceRecord", tokens: int, seconds: float) -> None:
        """Ignore it."""

    def ended(self, sequence: "SequenceRecord") -> None:
        """Ignore it."""


@dataclass(slots=True)
class SequenceRecord:
    """One sequence of a request; times are of `time.monotonic`, None for what has not happened.

    It is `sent_at` to the engine, which began with it at `started_at`; the first and the last
    event of the answer came at `first_at` and `last_at`.
    """

    prompt_tokens: int
    sampling: SamplingParams
    meter: Meter
    sent_at: float
    started_at: float | None = None
    first_at: float | None = None
    last_at: float | None = None
    tokens: int = 0
    cached_tokens: int = 0
    end: End | None = None

    def start(self, now: float) -> None:
        """Note that the engine has begun."""
        self.started_at = now
        self.meter.started(self)

    def grow(self, now: float, tokens: int = 1) -> None:
        """Note that the answer has so many tokens more."""
        seconds = now - (self.last_at or self.sent_at)
        self.last_at = now
        self.tokens += tokens
        if self.first_at is None:
            self.first_at = now
        self.meter.grew(self, tokens, seconds)

    def finish(self, end: End) -> None:
        """Note the end; later ones change nothing."""
        if self.end is None:
            self.end = end
            self.meter.ended(self)

    @property
    def first_token_seconds(self) -> float | None:
        """How long the first token took."""
        return None if self.first_at is None else self.first_at - self.sent_at

    @property
    def queue_seconds(self) -> float | None:
        """How long it waited for the engine."""
        return None if self.started_at is None else self.started_at - self.sent_at

    @property
    def prefill_seconds(self) -> float | None:
        """How long the engine read the prompt: to the first token."""
        if self.started_at is None or self.first_at is None:
            return None
        return self.first_at - self.started_at

    @property
    def decode_seconds(self) -> float | None:
        """How long the answer took from its first token to its last."""
        if self.first_at is None or self.last_at is None:
            return None
        return self.last_at - self.first_at

    @property
    def inference_seconds(self) -> float | None:
        """How long the engine had it: from its start to its last token."""
        if self.started_at is None or self.last_at is None:
            return None
        return self.last_at - self.started_at

    @property
    def seconds(self) -> float | None:
        """How long it took to the last token."""
        return None if self.last_at is None else self.last_at - self.sent_at

    @property
    def seconds_per_token(self) -> float | None:
        """How long each token after the first took in the mean."""
        seconds = self.decode_seconds
        return None if seconds is None or self.tokens < 2 else seconds / (self.tokens - 1)


class Meters(Protocol):
    """Knows the meter of every caller."""

    def of(self, key: str | None) -> Meter:
        """Return the meter for the key of that name, None for no key."""


class NoMeters:
    """Meters nobody."""

    def of(self, key: str | None) -> Meter:
        """Return what hears nothing."""
        return Unmetered()


@dataclass(slots=True)
class RequestRecord:
    """One request. `began_at` is in seconds since the epoch, `began` and `ended` are monotonic.

    `route` is the path as the server declares it, "" where there is none; `error` the code of what
    the client was told when it failed; `trace_headers` say which trace it belongs to.
    `content` is there only where the operator wants it kept.
    """

    request_id: str = ""
    method: str = ""
    path: str = ""
    model: str = ""
    route: str = ""
    key: str | None = None
    status: int = 0
    error: str | None = None
    asked_model: str | None = None
    stream: bool = False
    client_left: bool = False
    sequences: list[SequenceRecord] = field(default_factory=list)
    trace_headers: dict[str, str] = field(default_factory=dict)
    content: Content | None = None
    meters: Meters = field(default_factory=NoMeters, repr=False)
    began: float = field(default_factory=time.monotonic)
    began_at: float = field(default_factory=time.time)
    ended: float | None = None

    def sequence(self, prompt_tokens: int, sampling: SamplingParams) -> SequenceRecord:
        """Return the record of one more sequence, which goes to the engine now."""
        meter = self.meters.of(self.key)
        record = SequenceRecord(prompt_tokens, sampling, meter, time.monotonic())
        self.sequences.append(record)
        return record

    @property
    def prompt_tokens(self) -> int | None:
        """Count the tokens of its prompts, each once; None if nothing went to the engine."""
        return sum(one.prompt_tokens for one in self._firsts) if self.sequences else None

    @property
    def cached_tokens(self) -> int | None:
        """Count those of them that had been read before: a prompt's first sequence reads it."""
        return sum(one.cached_tokens for one in self._firsts) if self.sequences else None

    @property
    def completion_tokens(self) -> int | None:
        """Count the generated tokens of all its sequences."""
        return sum(one.tokens for one in self.sequences) if self.sequences else None

    @property
    def _firsts(self) -> list[SequenceRecord]:
        """The first sequence of each prompt; every prompt has `n` of them, one after another."""
        return self.sequences[:: self.sequences[0].sampling.n]

    @property
    def shown_status(self) -> int:
        """The status that was sent, 499 if the client left."""
        return 499 if self.client_left else self.status

    @property
    def seconds(self) -> float:
        """How long the request took, or has taken so far."""
        return (self.ended or time.monotonic()) - self.began

    @property
    def first_token_seconds(self) -> float | None:
        """How long the first token took from when the request came."""
        firsts = [one.first_at for one in self.sequences if one.first_at is not None]
        return min(firsts) - self.began if firsts else None

    @property
    def ends(self) -> list[End]:
        """How its sequences ended, in order."""
        return [one.end for one in self.sequences if one.end is not None]


class RequestObserver(Protocol):
    """Hears of requests once they are answered, in the event loop; must be quick."""

    def answered(self, record: RequestRecord) -> None:
        """Take note of a request that is over; `record` changes no more."""
