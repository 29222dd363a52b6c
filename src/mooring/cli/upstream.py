"""The options that name another server as engine, and what they mean."""

import os
from typing import Annotated
from urllib.parse import urlsplit

import typer

from mooring.errors import InvalidInput
from mooring.settings import UpstreamKind, UpstreamSettings

API_KEY_VARIABLE = "MOORING_UPSTREAM_API_KEY"

Preset = Annotated[
    UpstreamKind | None,
    typer.Option(
        help="Which server generates with --engine upstream: how it is spoken to, and started "
        "unless a command or URL is given."
    ),
]
Command = Annotated[
    str | None,
    typer.Option(
        help="Command that starts the upstream server; {snapshot}, {port}, {context_length} and "
        "{max_running} are filled in."
    ),
]
Url = Annotated[
    str | None,
    typer.Option(help=f"Upstream server that runs already; {API_KEY_VARIABLE} may hold its key."),
]
StartSeconds = Annotated[
    float, typer.Option(min=1, help="Time for the upstream server to become ready.")
]


def upstream_settings(
    engine: str,
    preset: UpstreamKind | None,
    command: str | None,
    url: str | None,
    start_seconds: float,
) -> UpstreamSettings | None:
    """Return what the options say; raise `InvalidInput` unless they fit together."""
    given = [value for value in (preset, command, url) if value is not None]
    if engine != "upstream":
        if given:
            raise InvalidInput(
                "--upstream-preset, --upstream-command and --upstream-url need --engine upstream. "
                f"Given: --engine {engine}."
            )
        return None
    if not given or (command is not None and url is not None):
        raise InvalidInput(
            "--engine upstream takes --upstream-preset, and at most one of --upstream-command and "
            f"--upstream-url. Given: {'both' if given else 'none'}."
        )
    if url is not None:
        url = _checked_url(url)
    key = os.environ.get(API_KEY_VARIABLE) or None
    return UpstreamSettings(preset, command, url, start_seconds, key)


def _checked_url(url: str) -> str:
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname or address.query:
        raise InvalidInput(
            f"--upstream-url is the base address of a server, such as http://127.0.0.1:8001. "
            f"Given: {url[:200]}."
        )
    if address.username or address.password:
        raise InvalidInput(
            f"--upstream-url must hold no password. Put the server's key into {API_KEY_VARIABLE}."
        )
    return url.rstrip("/").removesuffix("/v1")
