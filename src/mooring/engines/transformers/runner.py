"""Steps groups of sequences through one model, each group at its own pace."""

import gc
import logging
from collections import defaultdict
from collections.abc import Iterable

import torch

from mooring.engines.loop import step_failed
from mooring.engines.sequence import Sequence
from mooring.engines.transformers.group import Group
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.padding import padding_is_right
from mooring.generation import Failed

logger = logging.getLogger(__name__)

# Below this many parameters a step is over before a second thread could help: measured on two
# cores, equal speed when they are idle and less than half of it when they are not.
_TOO_SMALL_TO_SHARE = 4_000_000


class Runner:
    """The groups alive in one model; a newcomer never waits for an older group to end."""

    def __init__(self, loaded: LoadedModel, end_token_ids: Iterable[int]) -> None:
        self._loaded = loaded
        self._end_token_ids = frozenset(end_token_ids)
        self._can_pad = padding_is_right(loaded)
        self._groups: list[Group] = []
        self._stepped = False

    @torch.inference_mode()
    def step(self, joining: list[Sequence]) -> None:
        """Make `joining` new groups, then step every group once; a failure stays in its group."""
        if not self._stepped:
            self._stepped = True
            _choose_threads(self._loaded)
        self._groups += [Group(self._loaded, sequences) for sequences in self._arrange(joining)]
        for group in self._groups:
            if group.running:
                self._step(group)
        self._groups = [group for group in self._groups if group.running]

    def free(self) -> None:
        """Let go of the model and its memory; the runner cannot step after that."""
        self._groups.clear()
        del self._loaded
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _arrange(self, joining: list[Sequence]) -> list[list[Sequence]]:
        """Split into lists that can share a batch."""
        if self._can_pad:
            return [joining] if joining else []
        by_length: defaultdict[int, list[Sequence]] = defaultdict(list)
        for sequence in joining:
            by_length[len(sequence.request.input_ids)].append(sequence)
        return list(by_length.values())

    def _step(self, group: Group) -> None:
        try:
            group.step(self._end_token_ids)
        except Exception:  # a model's own code may raise anything
            logger.exception("A model step failed; its %d requests fail.", len(group.running))
            for sequence in group.running:
                sequence.end(Failed(step_failed()))


def _choose_threads(loaded: LoadedModel) -> None:
    """Run a tiny model on one thread; must be called in the thread that steps."""
    if sum(values.numel() for values in loaded.model.parameters()) < _TOO_SMALL_TO_SHARE:
        torch.set_num_threads(1)
