"""The house keeps its rules: arrows run one way, the door is explicit, files stay small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mooring

SOURCE = Path(mooring.__file__).parent

EVERYTHING_BELOW = {
    "errors", "settings", "registry", "machine", "safetensors_header", "generation", "spec",
    "protocol", "engines", "service", "observe", "packaging", "loading", "http", "demo", "bench",
    "mooring",
}  # fmt: skip

# Who may know whom: a room's own files may always import each other.
MAY_IMPORT = {
    "errors": set(),
    "settings": set(),
    "registry": {"errors"},
    "machine": set(),
    "safetensors_header": {"errors"},
    "generation": {"errors"},
    "spec": {"errors", "generation"},
    "protocol": {"errors", "generation"},
    "engines": {"errors", "settings", "machine", "safetensors_header", "generation"},
    "service": {"errors", "settings", "generation", "spec", "engines", "observe"},
    "observe": {"errors", "settings", "generation"},
    "http": {"errors", "settings", "generation", "protocol", "service", "observe", "mooring"},
    "packaging": {
        "errors", "settings", "registry", "machine", "safetensors_header", "generation", "spec",
        "demo", "mooring",
    },
    "loading": {
        "errors", "settings", "registry", "machine", "generation", "spec", "protocol", "engines",
        "service", "mooring",
    },
    "demo": {"errors", "spec", "generation"},
    "bench": {"errors", "generation", "engines"},
    "api": EVERYTHING_BELOW,
    "cli": {"bench", "api", "settings", "errors", "mooring", "spec", "loading", "packaging"},
    "mooring": {"api", "errors", "settings", "spec"},
}  # fmt: skip

# The only module of another room's inside that may be named.
ONLY_FILE = {
    ("service", "engines"): {"mooring.engines.contract"},
    ("bench", "engines"): {"mooring.engines.contract"},
}

HEAVY = {
    "torch",
    "mlflow",
    "transformers",
    "pandas",
    "fastapi",
    "starlette",
    "uvicorn",
    "openai",
    "prometheus_client",
    "opentelemetry",
}


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if "model" not in path.parent.name)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "mooring"


def imports_of(path: Path) -> set[str]:
    """Return the full names of Mooring's modules that a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] == "mooring"}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_arrows_run_one_way(path: Path) -> None:
    room = room_of(module_name(path))
    for imported in imports_of(path):
        target = room_of(imported)
        assert target == room or target in MAY_IMPORT[room], f"{room} must not know {imported}"
        only = ONLY_FILE.get((room, target))
        assert only is None or imported in only, f"{room} may know only {only}, not {imported}"


def test_the_import_test_sees_a_forbidden_arrow(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("def f():\n    from mooring.http.app import create_app\n")
    assert imports_of(file) == {"mooring.http.app"}
    assert "http" not in MAY_IMPORT["packaging"]


def test_every_room_has_its_rule() -> None:
    rooms = {room_of(module_name(path)) for path in modules()}
    assert rooms == set(MAY_IMPORT)


def test_the_door_is_explicit_and_small() -> None:
    assert len(mooring.__all__) <= 12
    assert mooring.__all__ == sorted(mooring.__all__)
    for name in mooring.__all__:
        assert getattr(mooring, name).__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mooring.nothing  # noqa: B018


@pytest.mark.parametrize("statement", ["import mooring", "import mooring.cli.main"])
def test_importing_is_light(statement: str) -> None:
    code = f"import sys; {statement}; print(sorted(set(sys.modules) & {HEAVY!r}))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_are_small_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), "no docstring"


def test_public_names_have_docstrings() -> None:
    missing = [
        f"{module_name(path)}.{node.name}"
        for path in modules()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert missing == []
