"""The program that converts a model; it runs by itself, in a process with packages of its own.

    python converter.py '{"packages": FOLDER, "step": "export", "source": FOLDER, "target": FOLDER, ...}'

writes one JSON object on stdout: the versions of what did the work, or what was refused and why.
It imports nothing of Mooring, whose own packages differ from the ones it is given.
"""  # noqa: E501

import json
import os
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

MODEL = "openvino_model.xml"
_KEPT = ("config.json", "generation_config.json")
_TOOLS = {
    "export": ("optimum-intel", "transformers", "torch", "openvino"),
    "compress": ("nncf", "openvino"),
}


def main() -> None:
    """Do one step as the arguments say, and tell on stdout how it ended."""
    order = json.loads(sys.argv[1])
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not part of the answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.path.insert(0, order["packages"])
    try:
        if order["step"] == "export":
            export(order["source"], Path(order["target"]), trusted=order["trust_remote_code"])
        else:
            compress(Path(order["source"]), Path(order["target"]), order["weights"])
        answer: dict[str, Any] = {"tools": {name: version(name) for name in _TOOLS[order["step"]]}}
    except Exception as error:  # noqa: BLE001 - the outermost edge of this process
        import traceback

        traceback.print_exc()
        lines = [line for line in str(error).splitlines() if line.strip()]
        answer = {"refused": f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]}
    said.write(json.dumps(answer) + "\n")
    said.flush()
    os._exit(0)  # without waiting for threads of libraries


def export(source: str, target: Path, *, trusted: bool) -> None:
    """Write the model in `source` as OpenVINO's graph, weights in 16 bits and nothing rounded."""
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVConfig

    # Its classes for whole models would write everything twice, and first into a folder of theirs.
    main_export(
        source,
        output=target,
        task="text-generation-with-past",
        library_name="transformers",
        ov_config=OVConfig(dtype="auto"),
        trust_remote_code=trusted,
    )
    for path in target.iterdir():  # serving takes the tokenizer from the snapshot
        if path.name not in (*_KEPT, MODEL, "openvino_model.bin"):
            path.unlink()


def compress(source: Path, target: Path, weights: str) -> None:
    """Write an exported model with weights of eight or four bits."""
    import nncf
    import openvino

    model = openvino.Core().read_model(source / MODEL)
    compressed = nncf.compress_weights(model, **_compression(nncf, weights))
    target.mkdir(parents=True, exist_ok=True)
    openvino.save_model(compressed, target / MODEL)
    for name in _KEPT:
        if (source / name).exists():
            (target / name).write_bytes((source / name).read_bytes())


def _compression(nncf: Any, weights: str) -> dict[str, Any]:
    if weights == "int8":
        return {"mode": nncf.CompressWeightsMode.INT8_ASYM}
    fitting = nncf.GroupSizeFallbackMode.ADJUST  # groups of 128, smaller where a row is shorter
    return {
        "mode": nncf.CompressWeightsMode.INT4_SYM,
        "group_size": 128,
        "ratio": 1.0,
        "advanced_parameters": nncf.AdvancedCompressionParameters(group_size_fallback_mode=fitting),
    }


def _end_with_parent() -> None:
    """End when the other end of stdin is closed, however that process ended."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
