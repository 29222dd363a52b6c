"""A server that cannot start says why in one line, before anything is loaded."""

import socket
import subprocess

import pytest

from tests.processes import BIN

PATIENCE = 120


def failing(*options: object) -> tuple[int, str]:
    """Return the exit code of `mooring serve`, and what it wrote."""
    command = [BIN / "mooring", "serve", "models:/demo@champion", *options]
    ran = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=PATIENCE
    )
    assert "Traceback" not in ran.stderr
    assert "engine serves" not in ran.stderr
    return ran.returncode, ran.stderr


@pytest.mark.usefixtures("demo")
def test_a_port_in_use_ends_the_command() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = failing("--port", port)
    assert code == 1
    assert f"Error: port {port} of 127.0.0.1 is in use." in said


@pytest.mark.usefixtures("demo")
def test_an_unknown_device_ends_the_command() -> None:
    code, said = failing("--device", "abacus")
    assert code == 2
    assert "abacus" in said


@pytest.mark.usefixtures("demo")
def test_what_this_model_cannot_have_ends_the_command() -> None:
    code, said = failing("--max-context", 1025)
    assert code == 2
    assert "`max_context` may only shorten the model's context of 1024 tokens. Given: 1025." in said
    code, said = failing("--served-model-name", "")
    assert code == 2
    assert "`served_model_name` must have at least one character." in said
