"""Runs a page from top to bottom, as its reader would, in an empty folder."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import IO, Self

import httpx

from tests.docs.blocks import ROOT, Block, blocks_of, commands_of, session_of
from tests.docs.comparing import difference
from tests.processes import BIN, free_port, server

SHOWN_ONLY = "text"
LANGUAGES = {"bash", "console", "python", "output", "json", SHOWN_ONLY}

_SERVERS = re.compile(r"\b(?:mooring serve|mlflow models serve|mlflow server)\b")
_PORTS = re.compile(r"(?P<before>\blocalhost:|\b127\.0\.0\.1:|--port )(?P<port>\d{4,5})")
_OPENAI_PORT = "8000"
_PROBE = '"path": "/ping"'  # how the tests wait, which no reader does
_SECONDS = 120


class Page:
    """One reader at work: a folder, what has been started, and the last Python output."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._ports: dict[str, int] = {}
        self._printed = ""
        hidden = ("MLFLOW_TRACKING_URI", "MLFLOW_LOGGING_LEVEL")
        self._environment = {k: v for k, v in os.environ.items() if k not in hidden} | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "COLUMNS": "100",
            "OMP_NUM_THREADS": "1",
            "MOORING_SERVE_PORT": str(self._port(_OPENAI_PORT)),
            **(environment or {}),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, path: Path) -> None:
        """Run every block of the page at `path`; fail with the line of the first that differs."""
        for block in blocks_of(path):
            try:
                self._run(block)
            except AssertionError as error:
                raise AssertionError(f"{path.name}:{block.line}: {error}") from None

    def _run(self, block: Block) -> None:
        match block.language:
            case "bash":
                for command in commands_of(block.text):
                    self._command(command, may_fail=False)
            case "console":
                for command, expected in session_of(block.text):
                    fails = any(line.startswith("Error: ") for line in expected.splitlines())
                    self._expect(expected, self._command(command, may_fail=fails))
            case "python":
                self._printed = self._python(block.text)
            case "output":
                self._expect(block.text, self._printed)
            case "json":
                self._send(json.loads(block.text), block.arguments)
            case language:
                assert language == SHOWN_ONLY, f"unknown language {language!r}"

    def _expect(self, expected: str, actual: str) -> None:
        found = difference(expected, actual)
        assert found is None, f"the page shows something else:\n{found}\n--- all of it:\n{actual}"

    def _command(self, command: str, *, may_fail: bool) -> str:
        """Run one command, or start it if it is a server; return what it shows."""
        command = self._with_own_ports(_without_make(command))
        if _SERVERS.search(command):
            return self._serve(command)
        ran = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command}"],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
        )
        assert may_fail or ran.returncode == 0, f"`{command}` exits {ran.returncode}:\n{ran.stdout}"
        return ran.stdout

    def _serve(self, command: str) -> str:
        port = re.search(r"--port (\d+)", command)
        address = f"http://127.0.0.1:{port[1] if port else self._port(_OPENAI_PORT)}"
        health = "/health" if "mlflow server" in command else "/ping"
        log = self._folder / f"server-{len(list(self._folder.glob('server-*')))}.log"
        script = f"unset MLFLOW_TRACKING_URI MLFLOW_LOGGING_LEVEL; cd {self._folder}; {command}"
        self._stack.enter_context(
            server(
                ["bash", "-c", f"({script}) 2>&1 | tee {log}"],
                address + health,
                environment=self._environment,
            )
        )
        return "\n".join(line for line in log.read_text().splitlines() if _PROBE not in line)

    def _python(self, source: str) -> str:
        requests, answers = self._interpreter
        requests.write(json.dumps(self._with_own_ports(source)) + "\n")
        requests.flush()
        answer = json.loads(answers.readline())
        assert answer["failure"] is None, answer["failure"]
        printed: str = answer["printed"]
        return printed

    @cached_property
    def _interpreter(self) -> tuple[IO[str], IO[str]]:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("interpreter.py"))],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.enter_context(process)
        assert process.stdin is not None
        assert process.stdout is not None
        return process.stdin, process.stdout

    def _send(self, body: object, arguments: tuple[str, ...]) -> None:
        """Send a body that names its route; the server must take it."""
        if not arguments:
            return
        method, path = arguments
        address = f"http://127.0.0.1:{self._port(_OPENAI_PORT)}"
        answer = httpx.request(method, address + path, json=body, timeout=60)
        assert answer.status_code == 200, answer.text

    def _port(self, shown: str) -> int:
        """Return the port used where a page says `shown`, so that pages run side by side."""
        return self._ports.setdefault(shown, free_port())

    def _with_own_ports(self, text: str) -> str:
        return _PORTS.sub(
            lambda m: f"{m['before'].replace('localhost', '127.0.0.1')}{self._port(m['port'])}",
            text,
        )


def _without_make(command: str) -> str:
    """Return what a make target runs, to be run in another folder."""
    if not command.startswith("make "):
        return command
    target = command.removeprefix("make ")
    printed = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "--directory", str(ROOT), target],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    recipe = printed.splitlines()[-1]
    return recipe.replace(".venv/bin/", f"{BIN}/").replace(" scripts/", f" {ROOT}/scripts/")
