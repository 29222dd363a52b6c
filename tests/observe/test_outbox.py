import logging
import threading
from collections.abc import Sequence

import pytest

from mooring.observe import outbox
from mooring.observe.outbox import Outbox
from mooring.observe.record import RequestRecord

PATIENCE = 10.0


class Receiver:
    """Takes what is delivered, but waits for `open` before each batch, and may be out of order."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.busy = threading.Event()
        self.broken = False
        self.batches: list[list[str]] = []
        self.dropped = 0

    def take(self, records: Sequence[RequestRecord]) -> None:
        self.busy.set()
        assert self.open.wait(PATIENCE)
        if self.broken:
            raise ConnectionError("away")
        self.batches.append([record.request_id for record in records])

    def drop(self, count: int) -> None:
        self.dropped += count


def record(name: object) -> RequestRecord:
    return RequestRecord(str(name))


def test_what_is_put_is_delivered_in_order_and_in_batches() -> None:
    receiver = Receiver()
    box = Outbox("things", receiver.take, receiver.drop)
    box.put(record("first"))
    assert receiver.busy.wait(PATIENCE)
    for number in range(150):
        box.put(record(number))
    receiver.open.set()
    box.close()
    assert [len(batch) for batch in receiver.batches] == [1, 100, 50]
    assert [name for batch in receiver.batches for name in batch][1:] == list(map(str, range(150)))
    assert receiver.dropped == 0


def test_a_slow_receiver_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST_WAITING", 3)
    receiver = Receiver()
    box = Outbox("things", receiver.take, receiver.drop)
    box.put(record("first"))
    assert receiver.busy.wait(PATIENCE)
    for number in range(5):
        box.put(record(number))
    assert receiver.dropped == 2
    monkeypatch.setattr(outbox, "CLOSING_SECONDS", 0.01)
    box.close()
    assert receiver.dropped == 5
    box.put(record("late"))
    assert receiver.dropped == 6
    receiver.open.set()


def test_what_a_receiver_refuses_is_counted_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, outbox.__name__)
    receiver = Receiver()
    receiver.open.set()
    box = Outbox("things", receiver.take, receiver.drop)

    def send(broken: bool) -> None:
        receiver.broken = broken
        receiver.busy.clear()
        before = receiver.dropped + len(receiver.batches)
        box.put(record("one"))
        while receiver.dropped + len(receiver.batches) == before:
            assert receiver.busy.wait(PATIENCE)

    for broken in (True, True, False, False):
        send(broken)
    box.close()
    assert receiver.dropped == 2
    assert [line.getMessage() for line in caplog.records] == [
        "things cannot be delivered and are given up: away", "things are delivered again.",
    ]  # fmt: skip
