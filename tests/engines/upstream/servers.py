"""Upstream engines around the stand-in and other servers, and the processes they leave."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from mooring.engines.contract import EngineObserver
from mooring.engines.description import EngineDescription
from mooring.engines.upstream import UpstreamEngine
from mooring.settings import EngineSettings, UpstreamKind, UpstreamSettings
from tests import models

STAND_IN = Path(__file__).with_name("stand_in.py")


def letters(token_ids: Sequence[int]) -> str | None:
    """Return token ids as characters; 255 has none."""
    return None if 255 in token_ids else "".join(map(chr, token_ids))


def python(*arguments: object) -> str:
    """Return a command that runs Python with these arguments."""
    return shlex.join([sys.executable, *map(str, arguments)])


def stand_in(*options: object) -> str:
    """Return the command that starts the stand-in."""
    return python("-S", STAND_IN, "{port}", *options)


def upstream_engine(
    upstream: UpstreamSettings,
    observer: EngineObserver | None = None,
    *,
    max_running: int = 32,
    hang_seconds: float = 10.0,
) -> UpstreamEngine:
    """Make an engine, not started."""
    return UpstreamEngine(
        EngineDescription(
            snapshot="",
            context_length=models.CONTEXT_LENGTH,
            vocabulary_size=models.VOCABULARY_SIZE,
            settings=EngineSettings(
                "upstream", max_running=max_running, hang_seconds=hang_seconds, upstream=upstream
            ),
            end_token_ids=(models.END,),
        ),
        letters,
        observer,
    )


def stand_in_engine(
    kind: UpstreamKind,
    observer: EngineObserver | None = None,
    *,
    options: Sequence[object] = (),
    max_running: int = 32,
    hang_seconds: float = 10.0,
) -> UpstreamEngine:
    """Make an engine, not started, that starts the stand-in."""
    settings = UpstreamSettings(kind, stand_in(*options), start_seconds=30)
    return upstream_engine(settings, observer, max_running=max_running, hang_seconds=hang_seconds)


def servers(name: str = STAND_IN.name) -> list[psutil.Process]:
    """Return the processes below this one that run a script of this name, without guardians."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            line = process.cmdline()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if any(part.endswith(name) for part in line) and not any(
            part.endswith("guardian.py") for part in line
        ):
            found.append(process)
    return found
