"""An engine whose work is done by a runner: all that such engines have in common."""

from typing import Protocol

from mooring.engines.contract import CacheUse
from mooring.engines.loop import EngineLoop
from mooring.engines.sequence import Sequence


class Runner(Protocol):
    """Runs sequences on a loaded model; used by the engine's own thread alone."""

    @property
    def cache_use(self) -> CacheUse:
        """How full the cache was after the last step; may be asked from any thread."""

    def step(self, joining: list[Sequence]) -> None:
        """Take in `joining` and push the next tokens; let go of the sequences that have ended."""

    def free(self) -> None:
        """Let go of the model."""


class RunningEngine(EngineLoop):
    """An engine loop around the runner that `_open` makes."""

    def __init__(self) -> None:
        super().__init__()
        self._runner: Runner | None = None

    def _step(self, joining: list[Sequence]) -> None:
        if self._runner is not None:
            self._runner.step(joining)

    def _cache_use(self) -> CacheUse:
        runner = self._runner
        return CacheUse() if runner is None else runner.cache_use

    def _free(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.free()
