"""A fresh environment with `mooring[openvino]`: no torch, no transformers, and it serves."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Store
from tests.doors.test_bare import ASKED, ask, converted_llama, expected_text
from tests.processes import free_port, server

ROOT = Path(__file__).parents[2]
MOST_MEGABYTES = 1300

ABOUT = """
import json, sys
from importlib.util import find_spec
from pathlib import Path
names = ("torch", "transformers", "safetensors", "accelerate", "openvino_genai", "mooring")
print(json.dumps([name for name in names if find_spec(name)]))
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the environment's folder; made from the package index, which takes minutes."""
    folder = tmp_path_factory.mktemp("small")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run(
        [
            str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check",
            "--constraint", str(ROOT / "constraints.txt"), f"{ROOT}[openvino]",
        ],
        check=True,
        timeout=1200,
    )  # fmt: skip
    return folder


def alone(folder: Path) -> dict[str, str]:
    """Return the environment of a process that knows this installation and nothing else."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    return {**kept, "PATH": f"{folder / 'bin'}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_it_is_small_and_has_no_torch(small: Path) -> None:
    about = subprocess.run(
        [small / "bin" / "python", "-c", ABOUT],
        env=alone(small), cwd=small, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(about.stdout) == ["openvino_genai", "mooring"]
    packages = next((small / "lib").glob("python*")) / "site-packages"
    size = sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) / 1e6
    print(f"{size:.0f} MB")  # noqa: T201 - shown with -s
    assert size < MOST_MEGABYTES


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["plan", "demo"]], ids=" ".join)
def test_the_command_works(small: Path, arguments: list[str]) -> None:
    command = [str(small / "bin" / "mooring"), *arguments]
    subprocess.run(command, env=alone(small), cwd=small, check=True, timeout=120)


@pytest.mark.slow
def test_it_serves_a_converted_model(small: Path, store: Store, tmp_path: Path) -> None:
    artifact = converted_llama(store, tmp_path)
    expected = expected_text(artifact)
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        "env", "-i", *(f"{name}={value}" for name, value in alone(small).items()),
        small / "bin" / "mooring", "serve", artifact, "--dtype", "float32", "--port", port,
    ]  # fmt: skip
    with server(command, f"{address}/ready") as process:
        assert ask(address, ASKED) == expected
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
