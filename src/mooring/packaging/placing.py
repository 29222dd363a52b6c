"""Put a file in place without copying its bytes where the filesystem can share them."""

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from mooring.errors import NotEnoughSpace

# ioctl FICLONE of Linux: share extents copy-on-write (btrfs, xfs).
_FICLONE = 0x40049409

# All of an artifact but the files of the model: Mooring's code takes two megabytes.
_REST_BYTES = 5_000_000

Placement = Literal["share", "copy", "point"]
"""How a file comes to its place: sharing bytes, as a copy of its own, or as a symbolic link."""

Progress = Callable[[int], None]
"""Called with the bytes of each snapshot file once it is in place."""


def place_file(source: Path, target: Path, how: Placement) -> None:
    """Make `target` hold the bytes of `source`: by reflink, else hard link, else copy.

    A hard link shares the file with its source: overwriting the source in place changes both, so
    `copy` shares nothing that can change. Links in a hub cache are followed first.
    """
    source = source.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "point":
        target.symlink_to(source)
        return
    if _share(source, target, how):
        return
    try:
        shutil.copyfile(source, target)
    except OSError:
        with suppress(OSError):
            target.unlink()
        raise


def require_space(folder: Path, parts: Sequence[tuple[Path, int]], how: Placement) -> None:
    """Raise `NotEnoughSpace` unless the parts of an artifact have room on the disk of `folder`.

    A part is the folder its files come from, and their size in bytes; what shares its bytes with
    its source needs no room. `folder` need not exist yet.
    """
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    needed = _REST_BYTES + sum(size for _, size in parts)
    if needed > free:  # only then it matters whether files can be shared, which is found by trying
        needed -= sum(size for source, size in parts if _can_share(source, place, how))
    if needed > free:
        raise NotEnoughSpace(
            f"The artifact needs {_megabytes(needed)} of disk in {place}. Free: "
            f"{_megabytes(free)}. Free some space or choose another store."
        )


def disk_full(error: OSError, path: Path, needed: int) -> NotEnoughSpace | None:
    """Return `NotEnoughSpace` if `error` says that the disk of `path` is full.

    `needed` is what was to be written in all, in bytes.
    """
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    place = next(folder for folder in path.parents if folder.exists())
    return NotEnoughSpace(
        f"The disk that holds the artifact is full: {_megabytes(shutil.disk_usage(place).free)} "
        f"are free in {place}, and it takes up to {_megabytes(needed)} in all. What was written is "
        "removed. Free some space or choose another store."
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def _share(source: Path, target: Path, how: Placement) -> bool:
    if _reflink(source, target):
        return True
    if how == "share":
        with suppress(OSError):
            os.link(source, target)
            return True
    return False


def _can_share(source: Path, place: Path, how: Placement) -> bool:
    """Try it with one file of `source`."""
    target = place / f".mooring-{uuid.uuid4().hex}"
    try:
        file = next(path for path in source.iterdir() if path.is_file())
        return _share(file.resolve(), target, how)
    except (OSError, StopIteration):
        return False
    finally:
        with suppress(OSError):
            target.unlink()


def _reflink(source: Path, target: Path) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    try:
        with source.open("rb") as reader, target.open("wb") as writer:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError:
        target.unlink(missing_ok=True)
        return False
    return True
