"""A model answering inside this process, for callers without an event loop of their own."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from queue import Queue
from threading import Thread, current_thread
from typing import Any, Self, TypeVar
from weakref import finalize

from mooring.errors import EngineStopped, InvalidInput
from mooring.generation import PromptInput, TextRequest
from mooring.loading.frames import rows_of
from mooring.loading.start import Running
from mooring.protocol.rows import parse_rows
from mooring.service.stream import Completion, TextDelta

Result = TypeVar("Result")
Put = Callable[[str | BaseException | None], None]


class LoadedModel:
    """Answers from any number of threads at once; they share the engine's batches.

    Use as a context manager, or call `close`.
    """

    def __init__(self, running: Running) -> None:
        self._running = running
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="mooring-model", daemon=True)
        self._thread.start()
        # MLflow has no way to close a model: one that nobody holds any more frees itself.
        self._close = finalize(self, _shut, running, self._loop, self._thread)

    def predict(self, data: Any, parameters: Mapping[str, Any] | None = None) -> list[str]:
        """Answer every row of `data` in order, `n` texts for each.

        `data` is a string, a list of strings or of `{"prompt": ...}` or `{"messages": ...}`
        mappings, one such mapping, or a data frame. Every row is checked before any is generated;
        raises `InvalidInput` or `EngineError`.
        """
        answers = self.complete(parse_rows(rows_of(data)), parameters)
        return [completion.text for answer in answers for completion in answer]

    def stream(self, data: Any, parameters: Mapping[str, Any] | None = None) -> Iterator[str]:
        """Answer one row piece by piece; closing the iterator early cancels the rest."""
        prompts = parse_rows(rows_of(data))
        completions = (parameters or {}).get("n", 1)
        if len(prompts) != 1 or completions != 1:
            raise InvalidInput(
                "Streaming answers one row with n = 1. "
                f"Given: {len(prompts)} rows, n = {completions}. Use predict."
            )
        return self._stream(prompts[0], parameters or {})

    def complete(
        self, prompts: Sequence[PromptInput], parameters: Mapping[str, Any] | None = None
    ) -> list[list[Completion]]:
        """Answer prompts already parsed, with token counts and the reasons why each ended."""
        return self._run(self._complete(prompts, parameters or {})).result()

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Raise `InvalidParameter` for the first parameter that would be refused."""
        self._running.service.sampling(parameters)

    def render(self, prompt: PromptInput) -> str | None:
        """Return the exact text the model sees for `prompt`, or None for token ids."""
        return self._running.service.render(prompt)

    def close(self) -> None:
        """Stop the engine, fail what still runs and free the model; safe to call twice."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(self, prompt: PromptInput, parameters: Mapping[str, Any]) -> Iterator[str]:
        pieces: Queue[str | BaseException | None] = Queue()
        task = self._run(self._pump(prompt, parameters, pieces.put))
        try:
            while (piece := pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            task.cancel()

    def _run(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        if not self._close.alive:
            work.close()
            raise EngineStopped("The model is closed. Load it again.")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _complete(
        self, prompts: Sequence[PromptInput], parameters: Mapping[str, Any]
    ) -> list[list[Completion]]:
        service = self._running.service
        sampling = service.sampling(parameters)
        requests = [TextRequest(prompt, sampling) for prompt in prompts]
        return await service.complete_all(await service.prepare_all(requests))

    async def _pump(self, prompt: PromptInput, parameters: Mapping[str, Any], put: Put) -> None:
        """Move text from the service to the caller's queue, the end or the failure last."""
        service = self._running.service
        try:
            request = TextRequest(prompt, service.sampling(parameters))
            stream = service.start(await service.prepare(request))
            try:
                async for piece in stream:
                    if isinstance(piece, TextDelta):
                        put(piece.text)
            finally:
                await stream.aclose()
        except Exception as error:  # noqa: BLE001 - handed to the caller's thread, raised there
            put(error)
        else:
            put(None)


def _shut(running: Running, loop: asyncio.AbstractEventLoop, thread: Thread) -> None:
    """Stop the engine, let every caller see its end, then stop the loop."""
    running.close()
    if current_thread() is thread:  # collected there: the loop cannot wait for itself
        loop.stop()
        return
    asyncio.run_coroutine_threadsafe(_others_ended(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def _others_ended() -> None:
    """Wait until every other task of this loop has seen the end of the engine."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=10)
