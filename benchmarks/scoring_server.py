"""MLflow's own scoring server, in one run: the well-known hand-written model, and ours.

Both serve the same snapshot through `mlflow models serve`, one server after the other, and get the
same parallel calls. The hand-written one answers each call with a `generate` of its own, its key
and value cache on and one at a time, as its calls would fight over one model otherwise.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import mlflow
from rich.console import Console
from rich.table import Table

import mooring
from mooring.demo import snapshot_path

HERE = Path(__file__).parent
START_SECONDS = 300
CALL_SECONDS = 900


@dataclass(frozen=True)
class Call:
    """One prompt and the number of tokens wanted."""

    prompt: str
    tokens: int

    def body(self) -> dict[str, Any]:
        """Return the call as MLflow takes it; the model's end token is ignored."""
        params = {"temperature": 0.0, "max_tokens": self.tokens, "ignore_eos": True}
        return {"inputs": {"prompt": [self.prompt]}, "params": params}


def main() -> None:
    """Serve each way in turn, measure, print tokens per second and the ratio."""
    options = parse_arguments()
    calls = work_list(options.calls, options.most_tokens)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = f"{folder}/artifacts"
        os.chdir(folder)
        ways = {
            "hand-written": log_hand_written(options.model),
            "Mooring": log_ours(options.model),
        }
        rates = {name: measure(uri, calls, options.runs) for name, uri in ways.items()}
    show(rates, calls, options)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=snapshot_path(), help="a snapshot's folder")
    parser.add_argument("--calls", type=int, default=32, help="calls in parallel")
    parser.add_argument("--most-tokens", type=int, default=128, help="of one answer, at most")
    parser.add_argument("--runs", type=int, default=3, help="runs of each; the median counts")
    return parser.parse_args()


def work_list(count: int, most_tokens: int) -> list[Call]:
    """Return prompts of different lengths that want an eighth of `most_tokens` up to all of it."""
    draw = random.Random(1234)
    words = ["river", "stone", "winter", "letter", "garden", "window", "number", "summer"]
    return [
        Call(
            " ".join(draw.choice(words) for _ in range(draw.randint(8, 96))),
            draw.randint(max(1, most_tokens // 8), most_tokens),
        )
        for _ in range(count)
    ]


def log_hand_written(snapshot: Path) -> str:
    """Log the model of `hand_written_model.py` and return its URI."""
    with mlflow.start_run():
        logged = mlflow.pyfunc.log_model(
            name="hand-written",
            python_model=str(HERE / "hand_written_model.py"),
            artifacts={"snapshot": str(snapshot)},
            pip_requirements=["mlflow", "torch", "transformers"],
            signature=hand_written_signature(),
        )
    return str(logged.model_uri)


def hand_written_signature() -> Any:
    """Return one column in, one out, and the parameters of a call."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "prompt")]),
        outputs=Schema([ColSpec(DataType.string, "candidates")]),
        params=ParamSchema(
            [
                ParamSpec("temperature", DataType.double, 0.1),
                ParamSpec("max_tokens", DataType.long, 1000),
                ParamSpec("ignore_eos", DataType.boolean, False),
            ]
        ),
    )


def log_ours(snapshot: Path) -> str:
    """Package with Mooring and return the URI."""
    spec = mooring.ModelSpec(source=str(snapshot), prompt="plain")
    return str(mooring.package(spec, name="ours").uri)


def measure(uri: str, calls: list[Call], runs: int) -> list[float]:
    """Return the output tokens per second of each run, after one that warms up."""
    with served(uri) as url:
        send_all(url, [Call(call.prompt, 2) for call in calls])
        rates = []
        for _ in range(runs):
            began = time.perf_counter()
            send_all(url, calls)
            rates.append(sum(call.tokens for call in calls) / (time.perf_counter() - began))
    return rates


def send_all(url: str, calls: list[Call]) -> None:
    """Send all calls in parallel and wait for the answers; none may fail."""
    with httpx.Client(timeout=CALL_SECONDS, limits=httpx.Limits(max_connections=None)) as client:

        def send(call: Call) -> None:
            answer = client.post(f"{url}/invocations", json=call.body())
            if answer.status_code != 200:
                sys.exit(f"{url} answered {answer.status_code}: {answer.text[:500]}")

        with ThreadPoolExecutor(len(calls)) as pool:
            list(pool.map(send, calls))


@contextlib.contextmanager
def served(uri: str) -> Iterator[str]:
    """Run `mlflow models serve` until the block ends; yield its address."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    mlflow_command = str(Path(sys.executable).with_name("mlflow"))
    command = [
        mlflow_command, "models", "serve", "-m", uri, "-p", str(port), "--env-manager", "local",
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": str(CALL_SECONDS)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    server = subprocess.Popen(
        command, env={**environment, "PATH": path}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        await_health(server, url)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def await_health(server: "subprocess.Popen[bytes]", url: str) -> None:
    """Wait until the server answers its ping."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/ping").status_code == 200:
                return
        time.sleep(0.2)
    sys.exit("The scoring server did not start.")


def show(rates: dict[str, list[float]], calls: list[Call], options: argparse.Namespace) -> None:
    """Print the medians, their spread and the ratio."""
    tokens = sum(call.tokens for call in calls)
    table = Table(title=f"{len(calls)} calls at once, {tokens} output tokens, {options.model.name}")
    for column in ("way", "tokens/s", "spread", "ratio"):
        table.add_column(column)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, found in rates.items():
        ratio = medians[name] / medians["hand-written"]
        spread = f"{min(found):.1f} - {max(found):.1f}"
        table.add_row(name, f"{medians[name]:.1f}", spread, f"{ratio:.2f}x")
    Console().print(table)
    print(json.dumps(rates), file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
