"""Put a file in place without copying its bytes where the filesystem can share them."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Literal

from mooring.errors import NotEnoughSpace

# ioctl FICLONE of Linux: share extents copy-on-write (btrfs, xfs).
_FICLONE = 0x40049409


Placement = Literal["share", "copy", "point"]
"""How a file comes to its place: sharing bytes, as a copy of its own, or as a symbolic link."""


def place_file(source: Path, target: Path, how: Placement) -> None:
    """Make `target` hold the bytes of `source`: by reflink, else hard link, else copy.

    A hard link shares the file with its source: overwriting the source in place changes both, so
    `copy` shares nothing that can change. Links in a hub cache are followed first.
    Raises `NotEnoughSpace` when the disk is full.
    """
    source = source.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "point":
        target.symlink_to(source)
        return
    if _reflink(source, target):
        return
    if how == "share":
        with suppress(OSError):
            os.link(source, target)
            return
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        with suppress(OSError):
            target.unlink()
        raise disk_full(error, target) from None


def disk_full(error: OSError, path: Path) -> OSError | NotEnoughSpace:
    """Return `NotEnoughSpace` if `error` says that the disk of `path` is full, else `error`."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    free = shutil.disk_usage(path.parent).free
    return NotEnoughSpace(
        f"The disk that holds the artifact is full: {free / 1e6:.0f} MB are free. "
        "Free some space or choose another store."
    )


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
