"""Servers that many tests share."""

import logging
from collections.abc import Iterator

import pytest

from mooring.engines.echo import EchoSettings
from tests.http.serving import Running, running_server


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """Undo what a server that runs in the test's process does to the loggers."""
    loggers = [logging.getLogger(name) for name in ("mooring", "uvicorn")]
    before = [(one.handlers, one.level, one.propagate) for one in loggers]
    yield
    for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


@pytest.fixture(scope="module")
def echo() -> Iterator[Running]:
    """Serve an engine that answers each prompt with itself, at once."""
    with running_server(EchoSettings(context_length=4096)) as running:
        yield running


@pytest.fixture
def slow() -> Iterator[Running]:
    """Serve an engine that takes 10 ms per token."""
    with running_server(EchoSettings(seconds_per_token=0.01)) as running:
        yield running
