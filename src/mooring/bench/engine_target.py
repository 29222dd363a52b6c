"""An engine of ours as something to measure: token ids in, token ids out, no text and no HTTP."""

import time
from collections.abc import Callable, Sequence
from itertools import count
from queue import Queue

import psutil

from mooring.bench.target import Answer, Ask
from mooring.engines.contract import Emit, Engine
from mooring.errors import BenchmarkFailed, EngineStopped
from mooring.generation import Event, Failed, GenerationRequest, SamplingParams, Started, Token


class Restarts:
    """Counts how often the engine was started again: a figure taken across one means nothing."""

    def __init__(self) -> None:
        self.count = 0

    def engine_restarting(self) -> None:
        """Count it."""
        self.count += 1

    def engine_restarted(self) -> None:
        """Nothing more to count."""

    def engine_failed(self, error: EngineStopped) -> None:
        """Leave it to the requests, which fail with it."""


class EngineTarget:
    """Measures the engine that `make` returns, which runs in a child process of its own."""

    def __init__(self, name: str, make: Callable[[Restarts], Engine]) -> None:
        self.name = name
        self._make = make
        self._restarts = Restarts()
        self._engine: Engine | None = None
        self._children: list[int] = []
        self._ids = count()

    def open(self) -> dict[str, str]:
        """Start the engine and return what it says of itself."""
        before = {child.pid for child in psutil.Process().children()}
        engine = self._engine = self._make(self._restarts)
        can = engine.start()
        children = {child.pid for child in psutil.Process().children()}
        self._children = sorted(children - before)
        return {
            "engine": f"{can.name} {can.version}",
            "runs on": f"{can.device} in {can.precision}",
            "tokens counted": "each one",
        }

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        """Submit everything, each at its time, and wait for the last end."""
        assert self._engine is not None, "open comes first"
        arrivals: list[list[float]] = [[] for _ in asks]
        ids: list[list[int]] = [[] for _ in asks]
        ended: Queue[Event] = Queue()
        asked: list[float] = []
        began = time.perf_counter()
        for index, ask in enumerate(asks):
            time.sleep(max(0.0, began + ask.after - time.perf_counter()))
            asked.append(time.perf_counter())
            sampling = SamplingParams(max_tokens=ask.output_tokens, temperature=0, ignore_eos=True)
            request = GenerationRequest(f"bench-{next(self._ids)}", ask.prompt, sampling)
            self._engine.submit(request, _receiver(arrivals[index], ids[index], ended))
        for _ in asks:
            event = ended.get()
            if isinstance(event, Failed):
                raise event.error
        if self._restarts.count:
            raise BenchmarkFailed(
                f"The engine of {self.name} died while it was measured. See its log, and try again."
            )
        return [
            Answer(asked[index], tuple(arrivals[index]), len(arrivals[index]), tuple(ids[index]))
            for index in range(len(asks))
        ]

    def processes(self) -> list[int]:
        """Return the engine's own process."""
        return self._children

    def close(self) -> None:
        """End the engine and its process."""
        if self._engine is not None:
            self._engine.close()


def _receiver(arrivals: list[float], ids: list[int], ended: Queue[Event]) -> Emit:
    def receive(event: Event) -> None:
        if isinstance(event, Token):
            arrivals.append(time.perf_counter())
            ids.append(event.id)
        elif not isinstance(event, Started):
            ended.put(event)

    return receive
