"""The converter: a process of its own, which answers, refuses or dies; the real one is slow."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mooring.errors import ConversionFailed, InvalidInput
from mooring.packaging.conversion import Converter, weight_formats
from tests.http.serving import wait_until
from tests.models import tiny_llama

# What the converter imports, reduced to what the tests say.
STAND_IN = """
from pathlib import Path
def main_export(source, output, **options):
    print("Exporting", source)
    {body}
    output.mkdir(exist_ok=True)
    for name in ("openvino_model.xml", "openvino_model.bin", "config.json", "tokenizer.json"):
        (output / name).write_text(name)
"""


def packages(folder: Path, body: str = "assert options['trust_remote_code'] is False") -> Path:
    modules = {
        "intel/__init__.py": "from dataclasses import make_dataclass\n"
        "OVConfig = make_dataclass('OVConfig', ['dtype'])\n",
        "exporters/openvino.py": STAND_IN.format(body=body),
    }
    for name, text in modules.items():
        module = folder / "optimum" / name
        module.parent.mkdir(parents=True)
        module.write_text(text)
    for name in ("optimum-intel", "openvino"):
        info = folder / f"{name.replace('-', '_')}-9.9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
    return folder


def export(folder: Path) -> dict[str, str]:
    return Converter(folder).export(folder, folder / "target", trust_remote_code=False)


def test_conversions_are_named() -> None:
    assert weight_formats(()) == ()
    assert weight_formats(("openvino:int4", "openvino:int8", "openvino:int4")) == ("int4", "int8")
    with pytest.raises(InvalidInput, match=r"openvino:int8, .*Given: openvino:int2"):
        weight_formats(("openvino:int2",))


def test_keeps_the_model_and_leaves_the_tokenizer(tmp_path: Path) -> None:
    tools = export(packages(tmp_path))
    assert tools["optimum-intel"] == "9.9"
    assert set(tools) == {"optimum-intel", "transformers", "torch", "openvino"}
    kept = sorted(path.name for path in (tmp_path / "target").iterdir())
    assert kept == ["config.json", "openvino_model.bin", "openvino_model.xml"]


def test_what_it_refuses_is_said(tmp_path: Path) -> None:
    folder = packages(tmp_path, "raise ValueError('harbor is not supported.\\nAt all.')")
    with pytest.raises(ConversionFailed, match=r"said: ValueError: harbor is not supported\. P"):
        export(folder)


def test_a_killed_converter_is_said(tmp_path: Path) -> None:
    folder = packages(tmp_path, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ConversionFailed, match="it was killed, as happens where memory runs out"):
        export(folder)


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    body = (
        "import subprocess; child = subprocess.Popen(['sleep', '600']); "
        f"Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))"
    )
    export(packages(tmp_path, body))
    wait_until(lambda: not _runs(int((tmp_path / "pid").read_text())))


def _runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_ends_with_the_process_that_started_it(tmp_path: Path, by: signal.Signals) -> None:
    pid_file = tmp_path / "pid"
    body = f"import os, time; Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(600)"
    code = (
        "from pathlib import Path; from mooring.packaging.conversion import Converter\n"
        f"folder = Path({str(packages(tmp_path, body))!r})\n"
        "Converter(folder).export(folder, folder, trust_remote_code=False)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
        child = psutil.Process(int(pid_file.read_text()))
        os.kill(parent.pid, by)
        parent.wait()
        child.wait(10)
    finally:
        parent.kill()


@pytest.mark.slow
def test_the_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mooring.packaging.converter_packages import converter_packages

    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    converter = Converter(converter_packages(lambda: None))
    source = tiny_llama(tmp_path / "llama")
    converter.export(source, tmp_path / "fp16", trust_remote_code=False)
    for weights in ("int8", "int4"):
        tools = converter.compress(tmp_path / "fp16", tmp_path / weights, weights)
        assert tools["nncf"] == "3.4.0"
        sizes = [(tmp_path / f / "openvino_model.bin").stat().st_size for f in ("fp16", weights)]
        assert sizes[1] < sizes[0]
        assert not list((tmp_path / weights).glob("tokenizer*"))
    assert list(temporary.iterdir()) == []
