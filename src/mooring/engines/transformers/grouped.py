"""Steps groups of sequences through one model, each group at its own pace."""

import logging
from collections import defaultdict

from mooring.engines.contract import CacheUse
from mooring.engines.loop import step_failed
from mooring.engines.sequence import Sequence
from mooring.engines.transformers.group import Group
from mooring.engines.transformers.loader import LoadedModel
from mooring.generation import Failed

logger = logging.getLogger(__name__)


class Grouped:
    """The groups alive in one model; a newcomer never waits for an older group to end."""

    def __init__(
        self, loaded: LoadedModel, end_token_ids: frozenset[int], *, can_pad: bool
    ) -> None:
        self._loaded = loaded
        self._end_token_ids = end_token_ids
        self._can_pad = can_pad
        self._groups: list[Group] = []

    @property
    def cache_use(self) -> CacheUse:
        """Nothing: groups have no bound."""
        return CacheUse()

    def step(self, joining: list[Sequence]) -> None:
        """Make `joining` new groups, then step every group once; a failure stays in its group."""
        for sequence in joining:
            sequence.start()
        self._groups += [
            Group(self._loaded, sequences, self._end_token_ids)
            for sequences in self._arrange(joining)
        ]
        for group in self._groups:
            if group.running:
                self._step(group)
        self._groups = [group for group in self._groups if group.running]

    def _arrange(self, joining: list[Sequence]) -> list[list[Sequence]]:
        """Split into lists that can share a batch; one whose prompt is owed is for itself."""
        alone = [[sequence] for sequence in joining if sequence.owes_prompt]
        others = [sequence for sequence in joining if not sequence.owes_prompt]
        if self._can_pad:
            return alone + ([others] if others else [])
        by_length: defaultdict[int, list[Sequence]] = defaultdict(list)
        for sequence in others:
            by_length[len(sequence.request.input_ids)].append(sequence)
        return alone + list(by_length.values())

    def _step(self, group: Group) -> None:
        try:
            group.step()
        except Exception as error:  # a model's own code may raise anything
            logger.exception("A model step failed; its %d requests fail.", len(group.running))
            for sequence in group.running:
                sequence.end(Failed(step_failed(error)))
