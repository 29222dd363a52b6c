"""Reads what this machine has: memory (as the container allows), GPUs, disk, kind of CPU."""

import hashlib
import os
import platform
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

_GPU_QUERY = (
    "nvidia-smi",
    "--query-gpu=index,name,memory.total,memory.free",
    "--format=csv,noheader,nounits",
)
_GPU_SECONDS = 10
_MIB = 2**20
_SPARE_SHARE = 0.25
# What a control group calls files that it keeps in memory, read once and read again.
_FILES = ("inactive_file", "active_file")
# `Path.expanduser` raises where there is no home.
NOTES_FOLDER = Path(os.path.expanduser("~/.cache/mooring/machine"))
_NATIVE_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU; memory in bytes."""

    name: str
    memory_total: int
    memory_free: int


@dataclass(frozen=True)
class Machine:
    """What there is to run on; sizes in bytes.

    `faster_in_float32` says that many rows were multiplied faster so than in 16 bits when that was
    last timed here.
    """

    memory_total: int
    memory_available: int
    disk_free: int
    gpus: tuple[Gpu, ...]
    native_bfloat16: bool
    faster_in_float32: bool = False


def read_machine(folder: Path | None = None) -> Machine:
    """Return what this machine has now; `disk_free` is of the disk that holds `folder`."""
    total, available = read_memory()
    return Machine(
        memory_total=total,
        memory_available=available,
        disk_free=shutil.disk_usage(folder or Path.cwd()).free,
        gpus=() if _torch_lacks_cuda() else read_gpus(os.environ.get("CUDA_VISIBLE_DEVICES")),
        native_bfloat16=has_native_bfloat16(),
        faster_in_float32=_float32_note().exists(),
    )


def read_memory() -> tuple[int, int]:
    """Return the memory of this machine or container, and what of it can be had now, in bytes."""
    memory = psutil.virtual_memory()
    limit, left = container_memory(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    if limit is None:
        return memory.total, memory.available
    return min(memory.total, limit), min(memory.available, left)


def has_native_bfloat16() -> bool:
    """Say whether this CPU computes in bfloat16 itself."""
    return names_bfloat16(_text(Path("/proc/cpuinfo")))


def can_spare(wanted: int, free: int) -> bool:
    """Say whether so many of the free bytes may go to what only makes things faster."""
    return wanted <= _SPARE_SHARE * free


def note_faster_in_float32(faster: bool) -> None:
    """Keep for later plans what timing this CPU showed, if there is a place to keep it."""
    note = _float32_note()
    with suppress(OSError):
        if faster:
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()
        else:
            note.unlink(missing_ok=True)


def has_matrix_units() -> bool:
    """Say whether this CPU multiplies matrices in units made for that (Intel's AMX)."""
    return "amx_tile" in _text(Path("/proc/cpuinfo"))


def cpu_name() -> str:
    """Return what this CPU calls itself, or an empty text."""
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor()


def container_memory(control_groups: Path, membership: Path) -> tuple[int | None, int]:
    """Return the tightest memory limit of this process and what is left of it, in bytes.

    Both versions of control groups are read; memory of files that can be dropped counts as left.
    """
    limits = [
        (limit, max(0, limit - _used(folder)))
        for folder in _memory_folders(control_groups, membership)
        if (limit := _number(folder, "memory.max", "memory.limit_in_bytes")) is not None
    ]
    if not limits:
        return None, 0
    return min(limit for limit, _ in limits), min(left for _, left in limits)


def read_gpus(visible: str | None = None) -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs, none without a working driver; `visible` lists the allowed ones."""
    if shutil.which(_GPU_QUERY[0]) is None:
        return ()
    try:
        answer = subprocess.run(
            _GPU_QUERY, capture_output=True, text=True, timeout=_GPU_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines()]
    return tuple(
        Gpu(row[1], int(row[2]) * _MIB, int(row[3]) * _MIB)
        for row in rows
        if len(row) == 4 and row[2].isdigit() and row[3].isdigit() and _is_visible(row[0], visible)
    )


def names_bfloat16(cpu_info: str) -> bool:
    """Say whether `/proc/cpuinfo` text names a CPU that computes in bfloat16 itself."""
    lines = (line.partition(":") for line in cpu_info.splitlines())
    return any(
        name.strip() in ("flags", "Features") and not _NATIVE_BFLOAT16.isdisjoint(flags.split())
        for name, _, flags in lines
    )


def _float32_note() -> Path:
    return NOTES_FOLDER / f"float32-{hashlib.sha256(cpu_name().encode()).hexdigest()[:16]}"


def _is_visible(index: str, visible: str | None) -> bool:
    """Indices can be told apart here; other names of GPUs (UUIDs) are taken as visible."""
    allowed = None if visible is None else [part.strip() for part in visible.split(",")]
    if allowed is None or any(part and not part.lstrip("-").isdigit() for part in allowed):
        return True
    return index in allowed


def _torch_lacks_cuda() -> bool:
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def _memory_folders(control_groups: Path, membership: Path) -> list[Path]:
    """List the control groups of this process for memory, from its own up to the root."""
    folders = []
    for line in _text(membership).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers not in ("", "memory"):
            continue
        root = control_groups / controllers
        own = root / path.lstrip("/")
        folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return folders


def _used(folder: Path) -> int:
    used = _number(folder, "memory.current", "memory.usage_in_bytes") or 0
    fields = (line.split() for line in _text(folder / "memory.stat").splitlines())
    kept = {name: int(value) for name, value in fields if name.endswith("active_file")}
    droppable = sum(max(kept.get(f"total_{name}", 0), kept.get(name, 0)) for name in _FILES)
    return max(0, used - droppable)


def _number(folder: Path, *names: str) -> int | None:
    for name in names:
        text = _text(folder / name).strip()
        if text.isdigit():
            return int(text)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
