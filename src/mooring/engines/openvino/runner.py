"""What both ways of running a converted model have in common."""

from typing import Protocol

from mooring.engines.contract import CacheUse
from mooring.engines.sequence import Sequence


class Runner(Protocol):
    """Runs sequences on a compiled model; used by the engine's own thread alone."""

    @property
    def cache_use(self) -> CacheUse:
        """How full the cache was after the last step; may be asked from any thread."""

    def step(self, joining: list[Sequence]) -> None:
        """Take in `joining` and push the next tokens; let go of the sequences that have ended."""

    def free(self) -> None:
        """Let go of the model."""
