"""Reads which packages a model's own code imports, without running it."""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mooring.errors import BrokenSource

_IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


@dataclass(frozen=True)
class Imports:
    """Full names of imported modules: those that must be there and those that may be missing."""

    required: frozenset[str]
    optional: frozenset[str]


def read_imports(folder: Path, modules: Iterable[str]) -> Imports:
    """Follow `modules` (dotted, below `folder`) through their relative imports.

    An import is optional inside `try`/`except ImportError` and `if is_..._available()`; imports
    for type checking alone do not count, nor does the standard library.
    """
    required: set[str] = set()
    optional: set[str] = set()
    seen: set[Path] = set()
    waiting = [folder / (module.replace(".", "/") + ".py") for module in modules]
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        for found in _imports(_parse(path), optional=False):
            if found.level:
                waiting += _relative_files(path, found, folder)
            elif found.module.partition(".")[0] not in sys.stdlib_module_names:
                (optional if found.optional else required).add(found.module)
    return Imports(frozenset(required), frozenset(optional - required))


@dataclass(frozen=True)
class _Import:
    module: str
    names: tuple[str, ...]
    level: int
    optional: bool


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        raise BrokenSource(
            f"The model's own code must be valid Python. Given: {path.name}, which cannot be "
            "parsed. Download or copy the model again."
        ) from None


def _imports(node: ast.AST, *, optional: bool) -> Iterator[_Import]:
    match node:
        case ast.Import(names=names):
            for alias in names:
                yield _Import(alias.name, (), 0, optional)
        case ast.ImportFrom(module=module, names=names, level=level):
            yield _Import(module or "", tuple(alias.name for alias in names), level, optional)
        case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=finalbody):
            forgiving = optional or any(_catches_import_error(handler) for handler in handlers)
            yield from _imports_of(body, optional=forgiving)
            yield from _imports_of(handlers, optional=forgiving)
            yield from _imports_of([*orelse, *finalbody], optional=forgiving)
        case ast.If(test=test, body=body, orelse=orelse):
            guarded = optional or _asks_availability(test)
            if not _is_type_checking(test):
                yield from _imports_of(body, optional=guarded)
            yield from _imports_of(orelse, optional=guarded)
        case _:
            yield from _imports_of(ast.iter_child_nodes(node), optional=optional)


def _imports_of(nodes: Iterable[ast.AST], *, optional: bool) -> Iterator[_Import]:
    for node in nodes:
        yield from _imports(node, optional=optional)


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return any(_name(part) in _IMPORT_ERRORS for part in ast.walk(handler.type))


def _asks_availability(test: ast.expr) -> bool:
    calls = (part.func for part in ast.walk(test) if isinstance(part, ast.Call))
    return any(_name(call).startswith("is_") and "_available" in _name(call) for call in calls)


def _is_type_checking(test: ast.expr) -> bool:
    return _name(test) == "TYPE_CHECKING"


def _name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _relative_files(path: Path, found: _Import, folder: Path) -> list[Path]:
    """Return the files that `from .module import name` may mean: a module or a package."""
    start = path.parent
    for _ in range(found.level - 1):
        start = start.parent
    base = start.joinpath(*found.module.split(".")) if found.module else start
    candidates = [base, *(base / name for name in found.names)]
    files = [file for c in candidates for file in (c.with_suffix(".py"), c / "__init__.py")]
    return [file for file in files if file.is_relative_to(folder)]
