"""Which servers are known: how each is spoken to, recognised and usually started."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from mooring.engines.upstream.dialect import Dialect
from mooring.engines.upstream.llama_cpp import LlamaCpp
from mooring.engines.upstream.openai_text import OpenAIText
from mooring.engines.upstream.sglang import Sglang
from mooring.engines.upstream.transformers_serve import TransformersServe
from mooring.engines.upstream.vllm import Vllm
from mooring.errors import InvalidInput
from mooring.settings import UpstreamKind, UpstreamSettings

DIALECTS: Mapping[UpstreamKind, type[Dialect]] = {
    "vllm": Vllm,
    "sglang": Sglang,
    "llama.cpp": LlamaCpp,
    "transformers": TransformersServe,
    "openai": OpenAIText,
}

COMMANDS: Mapping[UpstreamKind, str] = {
    "vllm": "vllm serve {snapshot} --host 127.0.0.1 --port {port} "
    "--max-model-len {context_length} --max-num-seqs {max_running}",
    "sglang": "python -m sglang.launch_server --model-path {snapshot} --host 127.0.0.1 "
    "--port {port} --context-length {context_length} --max-running-requests {max_running}",
    "llama.cpp": "llama-server --model {gguf} --host 127.0.0.1 --port {port} "
    "--ctx-size {context_length} --parallel {max_running} --kv-unified",
    "transformers": "transformers serve {snapshot} --host 127.0.0.1 --port {port}",
}

_TRUSTING: tuple[UpstreamKind, ...] = ("vllm", "sglang", "transformers")
_PROGRAMS: Mapping[str, UpstreamKind] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "sglang.launch_server": "sglang",
    "llama-server": "llama.cpp",
    "transformers": "transformers",
}


def kind_of(settings: UpstreamSettings) -> UpstreamKind:
    """Return the kind that is set, or that the first known program of the command is."""
    if settings.kind is not None:
        return settings.kind
    for part in _split(settings.command) if settings.command else ():
        if Path(part).name in _PROGRAMS:
            return _PROGRAMS[Path(part).name]
    return "openai"


def command_of(
    settings: UpstreamSettings, values: Mapping[str, object], *, trust_remote_code: bool
) -> list[str]:
    """Return the arguments that start the server, with `values` for their `{names}`.

    Raises `InvalidInput` if there is no command, it cannot be split, or it has no `{port}`.
    """
    kind = kind_of(settings)
    command = settings.command or COMMANDS.get(kind)
    if command is None:
        raise InvalidInput(
            f"A server of kind {kind} must be given by --upstream-command or --upstream-url."
        )
    if trust_remote_code and settings.command is None and kind in _TRUSTING:
        command += " --trust-remote-code"
    parts = _split(command)
    if "{gguf}" in command:
        values = {**values, "gguf": _gguf(Path(str(values["snapshot"])))}
    if not any("{port}" in part for part in parts):
        raise InvalidInput(
            "The upstream command must say {port} where the server's port belongs, such as "
            "`--port {port}`. Given: none."
        )
    return [_filled(part, values) for part in parts]


def _split(command: str) -> list[str]:
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise InvalidInput(f"The upstream command cannot be read: {error}.") from None
    if not parts:
        raise InvalidInput("The upstream command must name a program. Given: nothing.")
    return parts


def _filled(part: str, values: Mapping[str, object]) -> str:
    for name, value in values.items():
        part = part.replace(f"{{{name}}}", str(value))
    return part


def _gguf(snapshot: Path) -> Path:
    found = sorted(snapshot.glob("*.gguf"))
    if len(found) != 1:
        raise InvalidInput(
            "llama.cpp needs the model as one GGUF file, which a packaged model does not hold. "
            "Convert it, and name the file with: "
            "--upstream-command 'llama-server --model FILE --port {port}'"
        )
    return found[0]
