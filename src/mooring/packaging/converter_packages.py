"""The converter's packages: a folder of their own, installed once and kept.

They pin versions of libraries that differ from the ones that serve, so they are never installed
beside these. What they need and do not bring, such as torch, they find where Mooring runs.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from mooring.errors import MissingDependency

PINS = (
    "huggingface_hub==1.21.0",
    "ninja==1.13.2",
    "nncf==3.4.0",
    "openvino==2026.4.1",
    "openvino-telemetry==2025.2.0",
    "openvino-tokenizers==2026.4.1.0",
    "optimum==2.3.0",
    "optimum-intel==2.2.0",
    "pydot==4.0.1",
    "tabulate==0.10.0",
    "tokenizers==0.22.2",
    "transformers==5.5.4",
)
SIZE_BYTES = 134_000_000

# `Path.expanduser` raises where there is no home.
CACHE_FOLDER = Path(os.path.expanduser("~/.cache/mooring/converter"))


def converter_packages(
    installing: Callable[[], None], cache: Path | None = None, pins: tuple[str, ...] = PINS
) -> Path:
    """Return the folder with the converter's packages; call `installing` before it is made.

    A folder that is there is whole: it is made beside its place and renamed. Raises
    `MissingDependency` where pip is missing or cannot install them.
    """
    key = json.dumps([pins, sys.version, sys.prefix])
    cache = cache or CACHE_FOLDER
    final = cache / hashlib.sha256(key.encode()).hexdigest()[:32]
    if final.is_dir():
        return final
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{final.name}.lock"):
        if not final.is_dir():  # another process may have been faster
            installing()
            _install(final, pins)
    return final


def _install(final: Path, pins: tuple[str, ...]) -> None:
    if find_spec("pip") is None:
        raise MissingDependency(
            "Converting installs packages with pip, which this environment lacks. "
            "Run `python -m ensurepip`, then package again."
        )
    partial = final.with_name(f".partial-{final.name}")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--only-binary", ":all:", "--target", str(partial), *pins,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise MissingDependency(
                f"The converter's packages cannot be installed. pip said: {_reason(done.stderr)}. "
                "Check the network, or name a package index that can be reached in PIP_INDEX_URL, "
                "then package again; or leave out --optimize."
            )
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _reason(output: str) -> str:
    lines = [line.removeprefix("ERROR: ") for line in output.splitlines() if "ERROR" in line]
    return (lines or ["nothing"])[-1].strip().rstrip(".")[:300]
