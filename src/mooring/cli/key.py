"""`mooring key`: a new API key, and the entry of a keys file that goes with it."""

import json as json_text
from dataclasses import asdict
from typing import Annotated

import typer

from mooring.cli.options import Json
from mooring.cli.output import show_json


def key(
    name: Annotated[str, typer.Argument(help="Who the key is for; shown in the log.")],
    json: Json = False,
) -> None:
    """Make an API key: shown once, and never stored. The server keeps its hash.

    [bold]Examples[/]

    mooring key team-search

    mooring key team-search --json
    """
    from mooring.api.keys import make_key

    made = make_key(name)
    if json:
        show_json(asdict(made))
        return
    typer.echo(f"key: {made.key}\n")
    typer.echo("In the file for --api-keys-file, under `keys:`")
    typer.echo(f"- name: {json_text.dumps(made.name)}\n  sha256: {made.sha256}")
