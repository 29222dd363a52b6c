"""`mooring predict`: answer prompts or a file of rows, without a server."""

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mooring.cli.options import (
    Conversion,
    Device,
    Dtype,
    Json,
    OwnEngine,
    Parameters,
    TrackingUri,
    Uri,
    named_values,
)
from mooring.cli.output import show_json
from mooring.errors import InvalidInput
from mooring.settings import EngineSettings


def predict(
    uri: Uri,
    prompts: Annotated[
        list[str] | None, typer.Argument(help="One or more prompts; `-` reads lines from stdin.")
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option(help="JSON lines: a string, or an object with `prompt` or `messages`."),
    ] = None,
    param: Parameters = None,
    engine: OwnEngine = "auto",
    conversion: Conversion = None,
    device: Device = "auto",
    dtype: Dtype = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Print one answer while it is generated.")
    ] = False,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Answer prompts with a packaged model in this process.

    [bold]Examples[/]

    mooring predict models:/demo@champion "What is machine learning?"

    mooring predict models:/demo@champion --input-file rows.jsonl -p temperature=0 --json
    """
    from mooring.api.load import load

    rows = _rows(prompts or [], input_file)
    parameters = named_values(param, "--param")
    if stream and json:
        raise InvalidInput("--stream prints text, so it does not go with --json. Leave one out.")
    settings = EngineSettings(engine, device, dtype, conversion=conversion)
    with load(uri, engine=settings, tracking_uri=tracking_uri) as model:
        if stream:
            for text in model.stream(rows, parameters):
                typer.echo(text, nl=False)
            typer.echo()
            return
        candidates = model.predict(rows, parameters)
    if json:
        show_json({"candidates": candidates})
    else:
        for text in candidates:
            typer.echo(text)


def _rows(prompts: list[str], input_file: Path | None) -> list[Any]:
    if bool(prompts) == (input_file is not None):
        given = "both" if prompts else "neither"
        raise InvalidInput(f"Give either prompts or --input-file. Given: {given}.")
    if input_file is None:
        return [line.rstrip("\n") for line in sys.stdin] if prompts == ["-"] else list(prompts)
    try:
        lines = input_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InvalidInput(
            f"--input-file must be a readable UTF-8 file. Given: {input_file}."
        ) from None
    return [_row(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _row(number: int, line: str) -> Any:
    try:
        return json_module.loads(line)
    except ValueError:
        raise InvalidInput(
            f"--input-file must hold one JSON value per line. Line {number} is not JSON."
        ) from None
