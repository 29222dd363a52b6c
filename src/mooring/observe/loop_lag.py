"""How late the event loop is: all that it does at once delays everything else."""

import asyncio
from collections.abc import Callable

_LOOK_SECONDS = 0.1


async def watch_lag(note: Callable[[float], None]) -> None:
    """Tell `note` ten times a second how many seconds late the running loop woke this task."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LOOK_SECONDS
        await asyncio.sleep(_LOOK_SECONDS)
        note(max(0.0, loop.time() - due))
