"""Convert a snapshot for another engine: in a process of its own, with packages of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from mooring.errors import ConversionFailed, InvalidInput
from mooring.packaging import converter
from mooring.spec.manifest import WeightFormat

_FORMATS: dict[str, WeightFormat] = {
    "openvino:int8": "int8",
    "openvino:int4": "int4",
    "openvino:fp16": "fp16",
}
# Nothing is asked of a network, and nobody is told what is converted: under `CI` the libraries'
# telemetry, which would leave processes behind, is off.
_QUIET = {
    "CI": "true",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "NNCF_CI": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def weight_formats(names: Iterable[str]) -> tuple[WeightFormat, ...]:
    """Return the weight formats of conversions by name, each once; raise `InvalidInput`."""
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in _FORMATS:
            raise InvalidInput(
                f"A conversion is one of {', '.join(_FORMATS)}. Given: {name[:60]}.",
                param="optimize",
            )
    return tuple(_FORMATS[name] for name in names)


@dataclass(frozen=True, slots=True)
class Converter:
    """Runs the converter's steps with the packages in a folder."""

    packages: Path

    def export(self, snapshot: Path, target: Path, *, trust_remote_code: bool) -> dict[str, str]:
        """Write `snapshot` in OpenVINO's format into `target`, weights in 16 bits.

        Returns the versions of what did it. Raises `ConversionFailed` with the converter's reason.
        """
        return self._run(
            step="export",
            source=str(snapshot),
            target=str(target),
            trust_remote_code=trust_remote_code,
        )

    def compress(self, exported: Path, target: Path, weights: WeightFormat) -> dict[str, str]:
        """Write an exported model with smaller weights into `target`; as `export`."""
        return self._run(step="compress", source=str(exported), target=str(target), weights=weights)

    def _run(self, **order: Any) -> dict[str, str]:
        """Run one step; end it, however this process leaves."""
        order["packages"] = str(self.packages)
        command = [sys.executable, "-P", converter.__file__, json.dumps(order)]
        with TemporaryFile() as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | _QUIET,
                start_new_session=True,
            )
            try:
                # Its stdin stays open: it ends by itself should this process be killed.
                assert process.stdout is not None
                answer = process.stdout.readline()
                code = process.wait()
            finally:
                _end(process)
            return _tools(answer, code, order["step"])


def _tools(answer: bytes, code: int, step: str) -> dict[str, str]:
    said: dict[str, Any] = json.loads(answer) if answer else {"refused": _death(code)}
    if "refused" in said:
        raise ConversionFailed(
            f"The model cannot be converted for OpenVINO. In its {step} the converter said: "
            f"{said['refused']} Package it without --optimize; the transformers engine serves it."
        )
    tools: dict[str, str] = said["tools"]
    return tools


def _death(code: int) -> str:
    if code == -signal.SIGKILL:
        return "nothing; it was killed, as happens where memory runs out."
    return f"nothing; it ended with {code}."


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the process with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
