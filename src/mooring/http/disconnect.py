"""Work that ends when its client leaves."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

Result = TypeVar("Result")


async def unless_client_leaves(
    receive: Receive,
    work: Coroutine[Any, Any, Result],
    given_up: Coroutine[Any, Any, None] | None = None,
) -> Result:
    """Return what `work` returns; cancel it and raise `ClientDisconnect` if the client leaves.

    The end of `given_up` counts as leaving. The request's body must have been read.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(receive, given_up))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(receive: Receive, given_up: Coroutine[Any, Any, None] | None) -> None:
    if given_up is None:
        await _left(receive)
        return
    either = [asyncio.create_task(_left(receive)), asyncio.create_task(given_up)]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in either:
            task.cancel()
        await asyncio.gather(*either, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
