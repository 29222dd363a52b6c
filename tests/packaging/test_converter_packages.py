"""The converter's packages: installed once by the real pip, whole or not at all."""

import base64
import hashlib
from pathlib import Path
from zipfile import ZipFile

import pytest

from mooring.errors import MissingDependency
from mooring.packaging.converter_packages import PINS, converter_packages

PIN = ("harbour-tool==1.0",)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an index of one package for pip, which is told of no other."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    files = {
        "harbour_tool.py": "DEPTH = 12\n",
        "harbour_tool-1.0.dist-info/METADATA": (
            "Metadata-Version: 2.1\nName: harbour-tool\nVersion: 1.0\nRequires-Dist: torch\n"
        ),
        "harbour_tool-1.0.dist-info/WHEEL": (
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = "harbour_tool-1.0.dist-info/RECORD"
    lines = [f"{name},{_digest(text)},{len(text)}" for name, text in files.items()]
    with ZipFile(folder / "harbour_tool-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in {**files, record: "\n".join([*lines, f"{record},,\n"])}.items():
            wheel.writestr(name, text)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _digest(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return "sha256=" + digest.rstrip(b"=").decode()


@pytest.mark.usefixtures("wheels")
def test_installs_once_alone_and_keeps_it(tmp_path: Path) -> None:
    asked: list[str] = []
    cache = tmp_path / "cache"
    first = converter_packages(lambda: asked.append("first"), cache, PIN)
    assert (first / "harbour_tool.py").read_text() == "DEPTH = 12\n"
    assert not (first / "torch").exists()
    assert converter_packages(lambda: asked.append("second"), cache, PIN) == first
    assert asked == ["first"]
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [first.name]


@pytest.mark.usefixtures("wheels")
def test_what_was_left_half_made_is_made_again(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = converter_packages(lambda: None, cache, PIN)
    partial = cache / f".partial-{folder.name}"
    folder.rename(partial)
    (partial / "harbour_tool.py").unlink()
    assert (converter_packages(lambda: None, cache, PIN) / "harbour_tool.py").exists()
    assert not partial.exists()


@pytest.mark.usefixtures("wheels")
def test_what_cannot_be_installed_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match=r"pip said: No matching .*Check") as told:
        converter_packages(lambda: None, tmp_path / "cache", ("harbour-tool==2.0",))
    assert "PIP_INDEX_URL" in told.value.message
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_every_pin_is_exact() -> None:
    assert all(len(pin.split("==")) == 2 for pin in PINS)
