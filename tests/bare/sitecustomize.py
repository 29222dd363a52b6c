"""Hides torch and transformers from every process that has this folder first on PYTHONPATH.

Imports and metadata of theirs are not found, as where they are not installed. At its end each
process writes the heavy modules that it holds all the same into the folder of `BARE_REPORTS`.
"""

import atexit
import json
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from types import ModuleType

HIDDEN = {"torch", "transformers", "accelerate", "safetensors"}


class _Without(PathFinder):
    @classmethod
    def find_spec(
        cls,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in HIDDEN:
            return None
        return PathFinder.find_spec(fullname, path, target)


def _from_name(name: str) -> Distribution:
    if name in HIDDEN:
        raise PackageNotFoundError(name)
    return _any_from_name(name)


def _report(folder: Path) -> None:
    held = sorted(HIDDEN & set(sys.modules))
    (folder / f"{os.getpid()}.json").write_text(json.dumps({"argv": sys.argv, "held": held}))


_any_from_name = Distribution.from_name
Distribution.from_name = staticmethod(_from_name)  # type: ignore[method-assign]
sys.meta_path = [_Without if finder is PathFinder else finder for finder in sys.meta_path]
if "BARE_REPORTS" in os.environ:
    atexit.register(_report, Path(os.environ["BARE_REPORTS"]))
