"""One sequence at a time, for architectures whose attention the paged way gets wrong."""

from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from mooring.engines.contract import CacheUse
from mooring.engines.openvino.generation import Answer
from mooring.engines.openvino.paged import token_tensor
from mooring.engines.sequence import Sequence


class Alone:
    """Runs a folder's model with plain attention (SDPA); must have one sequence at most."""

    def __init__(
        self, folder: Path, properties: dict[str, Any], *, end_token_ids: tuple[int, ...]
    ) -> None:
        from openvino_genai import LLMPipeline

        self._pipeline = LLMPipeline(str(folder), "CPU", ATTENTION_BACKEND="SDPA", **properties)
        self._end_token_ids = end_token_ids
        self._generation: Generation | None = None

    @property
    def cache_use(self) -> CacheUse:
        """Nothing: one sequence has all that it needs."""
        return CacheUse()

    def step(self, joining: list[Sequence]) -> None:
        """Take in `joining` and push the next token; let go of the sequence once it has ended."""
        self._release()
        for sequence in joining:
            sequence.start()
            answer = Answer(sequence, self._end_token_ids)
            self._generation = Generation(self._pipeline, answer)
        if self._generation is not None:
            self._generation.step()
        self._release()

    def free(self) -> None:
        """Let go of the model."""
        if self._generation is not None:
            self._generation.end()
        self._generation = None
        del self._pipeline

    def _release(self) -> None:
        if self._generation is not None and self._generation.answer.sequence.ended:
            self._generation.end()
            self._generation = None


class Generation:
    """The library's one long call in a thread of its own, which waits for leave before each token.

    So the engine's loop can look at cancelled and waiting requests between two tokens.
    """

    def __init__(self, pipeline: Any, answer: Answer) -> None:
        self.answer = answer
        self._tokens: SimpleQueue[list[int] | Exception | None] = SimpleQueue()
        self._leave: SimpleQueue[bool] = SimpleQueue()
        self._thread = Thread(
            target=self._run, args=(pipeline,), name="openvino-generation", daemon=True
        )
        self._thread.start()

    def step(self) -> None:
        """Push the next token; raise what the library raised."""
        self._leave.put(True)
        tokens = self._tokens.get()
        if isinstance(tokens, Exception):
            raise tokens
        self.answer.take(tokens or ())

    def end(self) -> None:
        """Stop the call, and wait for it."""
        self._leave.put(False)
        self._thread.join()

    def _run(self, pipeline: Any) -> None:
        try:
            if self._leave.get():
                tensor = token_tensor(self.answer.input_ids)
                pipeline.generate(tensor, self.answer.configure(), _streamer(self._hand_over))
        except Exception as error:  # noqa: BLE001 - raised again by the engine's own thread
            self._tokens.put(error)
        else:
            self._tokens.put(None)

    def _hand_over(self, tokens: list[int]) -> bool:
        """Give tokens to the engine's thread; return whether to go on, once it says so."""
        self._tokens.put(tokens)
        return self._leave.get()


def _streamer(hand_over: Any) -> Any:
    from openvino_genai import StreamerBase, StreamingStatus

    class Streamer(StreamerBase):  # type: ignore[misc]  # the library has no types
        def write(self, token: int | list[int]) -> StreamingStatus:
            goes_on = hand_over([token] if isinstance(token, int) else list(token))
            return StreamingStatus.RUNNING if goes_on else StreamingStatus.CANCEL

        def end(self) -> None:
            pass

    return Streamer()
