"""Folders for work in progress: gone at the end, and recognised by others if that never came.

A lock says whose process still lives: it goes with the process, however that ends, where the number
of a process may soon be another's.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mooring.errors import InvalidInput

# `Path.expanduser` raises where there is no home.
CACHE_FOLDER = Path(os.path.expanduser("~/.cache/mooring"))

_PREFIX = "work-"


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """Make a folder in `parent` that is gone at the end, and remove what was abandoned there."""
    for folder in abandoned(parent):
        discard(folder)
    with claimed_folder(parent) as folder:
        try:
            yield folder
        finally:
            discard(folder)


@contextmanager
def claimed_folder(parent: Path) -> Iterator[Path]:
    """Make a folder in `parent` that counts as abandoned once the block or the process ends."""
    folder = parent / f"{_PREFIX}{uuid.uuid4().hex}"
    lock = FileLock(_lock_of(folder))
    try:
        parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()  # before there is a folder: one without a lock is nobody's
        folder.mkdir()
    except OSError as error:
        raise InvalidInput(
            f"{parent} must be a folder that can be written. Given: {error.strerror}. "
            "Change that, or set HOME to another folder."
        ) from None
    try:
        yield folder
    finally:
        lock.release()


def abandoned(parent: Path) -> Iterator[Path]:
    """Yield the folders in `parent` whose owner is gone; while in hand, they are the caller's."""
    for folder in sorted(parent.glob(f"{_PREFIX}*/")):
        try:
            with FileLock(_lock_of(folder), blocking=False):
                yield folder
        except Timeout:
            continue


def discard(folder: Path) -> None:
    """Remove a folder that is the caller's, with its lock."""
    shutil.rmtree(folder, ignore_errors=True)
    _lock_of(folder).unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
