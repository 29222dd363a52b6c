"""Parquet bodies of `/invocations`, read in a process of their own within bounds."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

from mooring.errors import InvalidInput

_SECONDS = 15.0
_SIDE_BY_SIDE = 2


class ParquetReader:
    """Reads files one process each, few side by side: whatever a file does, the server goes on."""

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._places = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def rows(self, body: bytes) -> list[object]:
        """Return the rows; raise `InvalidInput` for what is no Parquet or unpacks to too much."""
        async with self._places:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mooring.http.parquet_reader", str(self._max_rows),
                stdin=PIPE, stdout=PIPE, stderr=DEVNULL,
                env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},
                limit=self._max_bytes,
            )  # fmt: skip
            try:
                async with asyncio.timeout(_SECONDS):
                    text = await self._talk(process, body)
            except TimeoutError:
                raise _unreadable() from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        try:
            told = json.loads(text)
        except ValueError:  # it has taken more than it may, or its parser has failed
            raise _unreadable() from None
        if isinstance(told, dict):
            raise InvalidInput(told["error"])
        rows: list[object] = told
        return rows

    async def _talk(self, process: Process, body: bytes) -> bytes:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(body)
        try:
            await process.stdin.drain()
            process.stdin.close()
        except ConnectionError:
            return b""
        text = b""
        while part := await process.stdout.read(65536):
            text += part
            if len(text) > self._max_bytes:
                raise InvalidInput(
                    f"The rows of a Parquet body must have at most {self._max_bytes} bytes as JSON."
                )
        await process.wait()
        return text


def _unreadable() -> InvalidInput:
    return InvalidInput("The body is no Parquet that can be read in time and memory.")
