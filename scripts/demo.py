"""The whole journey on the bundled model: package, register, serve, ask, say what to do next."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
from rich.console import Console

QUESTION = "What is machine learning?"
MODEL = "demo"
URI = f"models:/{MODEL}@champion"
MOORING = Path(sys.executable).parent / "mooring"

console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """Run the demo; each step prints what it did."""
    os.environ["MLFLOW_LOGGING_LEVEL"] = "ERROR"
    package_once()
    with served() as url:
        console.print(f"\n[bold]{QUESTION}[/]")
        text, tokens = ask_with_openai(url)
        ask_with_mlflow(url, text, tokens)
    show_next_steps()


def show_next_steps() -> None:
    """Print how to keep the server running and how to talk with it."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]})
    console.print("\nKeep it running with [bold]make serve[/], then:\n")
    console.print(
        "  curl localhost:8000/v1/chat/completions -H 'Content-Type: application/json' \\\n"
        f"    -d '{body}'\n"
        f"  .venv/bin/mooring chat {URI}",
        markup=False,
    )


def package_once() -> None:
    """Package the demo model unless the registry has this very one already."""
    import mooring

    version = version_packaged_before()
    if version is not None:
        console.print(f"Packaged before: {MODEL} version {version} ({URI})")
        return
    with console.status("Packaging the demo model"):
        packaged = mooring.package(
            mooring.ModelSpec(source="demo"), name=MODEL, alias="champion", tags={"demo": "true"}
        )
    console.print(packaged.plan)
    console.print(f"Packaged {packaged.uri} in {packaged.seconds:.1f} s, alias champion")


def version_packaged_before() -> str | None:
    """Return the champion's version if it is the bundled model, packaged by this Mooring."""
    import mooring
    from mooring.demo import snapshot_path
    from mooring.errors import MooringError
    from mooring.spec.manifest import sha256_of

    try:
        report = mooring.info(URI)
    except MooringError:
        return None
    weights = sha256_of(snapshot_path() / "model.safetensors")
    same_model = weights in {file.sha256 for file in report.manifest.files}
    same_mooring = report.manifest.mooring_version == mooring.__version__
    return report.version if same_model and same_mooring else None


@contextmanager
def served() -> Iterator[str]:
    """Run `mooring serve` on a free port and yield its address once it is ready."""
    began = time.monotonic()
    command = [str(MOORING), "serve", URI, "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        url = address_of(server)
        while httpx.get(f"{url}/ready").status_code != 200:
            time.sleep(0.1)
        console.print(f"Serving at {url}, ready after {time.monotonic() - began:.1f} s")
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)


def address_of(server: "subprocess.Popen[str]") -> str:
    """Return the address the server says it listens on."""
    assert server.stderr is not None
    lines = []
    for line in server.stderr:
        lines.append(line)
        for word in line.split():
            if word.startswith("http://"):
                return word.rstrip("/.,")
    sys.exit("The server did not start:\n" + "".join(lines))


def ask_with_openai(url: str) -> tuple[str, int]:
    """Stream one answer through the OpenAI client; return it and its number of tokens."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    client.models.list()  # connects, so that the time below is the model's alone
    began = time.monotonic()
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    )
    console.print("[cyan]OpenAI client [/]", end="")
    text, tokens = "", 0
    for chunk in stream:
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        for choice in chunk.choices:
            console.print(choice.delta.content or "", end="", markup=False)
            text += choice.delta.content or ""
    show_speed(tokens, time.monotonic() - began)
    return text, tokens


def ask_with_mlflow(url: str, expected: str, tokens: int) -> None:
    """Ask the same through MLflow's scoring protocol, which must give the same answer."""
    began = time.monotonic()
    answer = httpx.post(f"{url}/invocations", json={"inputs": [QUESTION]}, timeout=60)
    answer.raise_for_status()
    text = answer.json()["predictions"]["candidates"][0]
    console.print("[cyan]/invocations  [/]", end="")
    console.print(text, end="", markup=False)
    show_speed(tokens, time.monotonic() - began)
    if text != expected:
        sys.exit("The two answers differ, and they must not.")


def show_speed(tokens: int, seconds: float) -> None:
    """Print tokens per second behind an answer."""
    console.print(f"  [dim]({tokens} tokens, {tokens / seconds:.0f} tokens/s)[/]")


if __name__ == "__main__":
    main()
