"""All that observe one server: its metrics, its access lines, and what else is told of requests."""

from collections.abc import Sequence
from dataclasses import dataclass

from mooring.observe.logs import AccessLog
from mooring.observe.metrics import Metrics
from mooring.observe.record import RequestObserver, RequestRecord


@dataclass(frozen=True, slots=True)
class Observers:
    """The metrics of a server, and others who hear of its requests too.

    With `keeps_content` they also learn what was asked and answered.
    """

    metrics: Metrics
    others: Sequence[RequestObserver] = ()
    keeps_content: bool = False

    def answered(self, record: RequestRecord) -> None:
        """Tell them all of a request that is over."""
        told: list[RequestObserver] = [AccessLog(), self.metrics, *self.others]
        for observer in told:
            observer.answered(record)
