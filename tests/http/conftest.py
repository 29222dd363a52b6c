"""Servers that many tests share."""

from collections.abc import Iterator

import pytest

from mooring.engines.echo import EchoSettings
from tests.http.serving import Running, running_server


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
