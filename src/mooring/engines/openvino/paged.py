"""Continuous batching: sequences join and leave between any two steps."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooring.engines.contract import CacheUse
from mooring.engines.loop import step_failed
from mooring.engines.openvino.generation import Answer
from mooring.engines.openvino.memory import BLOCK_TOKENS
from mooring.engines.sequence import Sequence
from mooring.errors import RequestFailed
from mooring.generation import Failed
from mooring.machine import has_matrix_units

if TYPE_CHECKING:
    from openvino_genai import SchedulerConfig

logger = logging.getLogger(__name__)

# Prompt and answer tokens of one step: a long prompt is read in parts, so that others go on. Where
# arithmetic is cheap, a step is hardly longer for more of them.
_STEP_TOKENS = 256 if has_matrix_units() else 160


class Paged:
    """Runs a folder's model with `cache_tokens` of keys and values in blocks."""

    def __init__(
        self,
        folder: Path,
        properties: dict[str, Any],
        *,
        cache_tokens: int,
        max_running: int,
        end_token_ids: tuple[int, ...],
    ) -> None:
        from openvino_genai import ContinuousBatchingPipeline

        scheduler = _scheduler(cache_tokens // BLOCK_TOKENS, max_running)
        self._pipeline = ContinuousBatchingPipeline(str(folder), scheduler, "CPU", properties)
        self._end_token_ids = end_token_ids
        self._answers: list[tuple[Answer, Any]] = []
        self._next_id = 0
        self._cache_use = CacheUse()

    @property
    def cache_use(self) -> CacheUse:
        """How full the cache was after the last step; the library does not count preemptions."""
        return self._cache_use

    def step(self, joining: list[Sequence]) -> None:
        """Take in `joining` and push the next tokens; let go of the sequences that have ended."""
        self._release()
        for sequence in joining:
            self._add(Answer(sequence, self._end_token_ids))
        self._pipeline.step()
        self._cache_use = CacheUse(self._pipeline.get_metrics().cache_usage / 100)
        for answer, handle in self._answers:
            _read(answer, handle)
        self._release()

    def free(self) -> None:
        """Let go of the model."""
        self._answers.clear()
        del self._pipeline

    def _add(self, answer: Answer) -> None:
        self._next_id += 1
        try:
            handle = self._pipeline.add_request(
                self._next_id, token_tensor(answer.input_ids), answer.configure()
            )
        except RuntimeError:  # what the library does not like of one request is no other's concern
            logger.exception("OpenVINO refused a request; it fails.")
            answer.sequence.end(Failed(step_failed()))
        else:
            answer.sequence.start()
            self._answers.append((answer, handle))

    def _release(self) -> None:
        """Give back the blocks of what has ended here, if the library does not know yet."""
        for answer, handle in self._answers:
            if answer.sequence.ended:
                handle.cancel()
        self._answers = [(a, handle) for a, handle in self._answers if not a.sequence.ended]


def _scheduler(blocks: int, max_running: int) -> "SchedulerConfig":
    from openvino_genai import SchedulerConfig

    scheduler = SchedulerConfig()
    scheduler.num_kv_blocks = blocks
    scheduler.max_num_seqs = max_running
    scheduler.max_num_batched_tokens = max(_STEP_TOKENS, max_running)
    scheduler.dynamic_split_fuse = True
    # The library's prefix cache knows no `cache_scope`: it would serve one caller's to another.
    scheduler.enable_prefix_caching = False
    return scheduler


def _read(answer: Answer, handle: Any) -> None:
    from openvino_genai import GenerationStatus

    while handle.can_read():
        for output in handle.read().values():
            answer.take(output.generated_ids, output.generated_log_probs)
    if handle.get_status() != GenerationStatus.RUNNING and not answer.sequence.ended:
        # The library gives up a request that its cache cannot hold, and says so only here.
        answer.sequence.end(Failed(RequestFailed(
            "The engine's cache could not hold this request. Shorten it, or raise the cache's "
            "bound (`cache_bytes`)."
        )))  # fmt: skip


def token_tensor(token_ids: tuple[int, ...]) -> Any:
    """Return token ids as the batch of one that the library takes."""
    import numpy as np
    from openvino import Tensor

    return Tensor(np.array([token_ids], dtype=np.int64))
