"""What a server is and holds at one moment, as its metrics show it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Served:
    """Which model a server of which version serves."""

    name: str
    version: str | None
    server_version: str

    @property
    def labels(self) -> tuple[str, str]:
        """The values of the labels that every metric of the model has."""
        return self.name, self.version or ""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What runs the model, known once it is loaded; the length in tokens."""

    engine: str
    engine_version: str
    device: str
    precision: str
    context_length: int


@dataclass(frozen=True, slots=True)
class Levels:
    """Sequences, tokens and events held now, and what the engine has counted since its start.

    `state` is one of `states`; `cache_used` the share of the cache that running sequences take.
    """

    state: str
    states: tuple[str, ...]
    running: int = 0
    waiting: int = 0
    steps: int = 0
    cache_used: float = 0.0
    preemptions: int = 0
    restarts: int = 0
    sequences: int = 0
    sequence_limit: int = 0
    waiting_tokens: int = 0
    buffered_events: int = 0
    facts: EngineFacts | None = None
