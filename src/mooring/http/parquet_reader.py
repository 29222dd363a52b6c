"""The process that reads one Parquet file: its parser is native code, and small files hold much.

The file comes on stdin, its rows leave on stdout as a JSON list, or an object whose `error` says
why not.
"""

import json
import resource
import sys
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_CPU_SECONDS = 5
_MEMORY_BYTES = 2 * 1024**3
# Where data frames keep the names of their rows.
_INDEX = "__index_level_"


def main() -> None:
    """Read at most as many rows as the argument says."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _MEMORY_BYTES)
    _limit(resource.RLIMIT_CPU, _CPU_SECONDS)
    # What cannot be written as JSON is no prompt either: its kind is what the error names.
    json.dump(_rows(int(sys.argv[1])), sys.stdout, default=lambda value: {"of": str(type(value))})


def _rows(most: int) -> Any:
    try:
        file = pq.ParquetFile(pa.BufferReader(sys.stdin.buffer.read()))
        given = file.metadata.num_rows
        if given > most:
            return {"error": f"One call takes at most {most} prompts. Given: {given}."}
        names = [name for name in file.schema_arrow.names if not name.startswith(_INDEX)]
        return file.read(columns=names, use_threads=False).to_pylist()
    except (pa.ArrowException, OSError, ValueError, MemoryError):
        return {"error": "The body must be valid Parquet."}


def _limit(what: int, most: int) -> None:
    """Have the kernel end this process when it takes more, where it can."""
    _, hard = resource.getrlimit(what)
    with suppress(ValueError, OSError):
        resource.setrlimit(what, (most, hard))


if __name__ == "__main__":
    main()
