"""The `mooring` command: its verbs, and how every failure ends."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import typer

import mooring
from mooring.cli.bench import bench
from mooring.cli.chat import chat
from mooring.cli.info import info
from mooring.cli.key import key
from mooring.cli.output import fail
from mooring.cli.package import package
from mooring.cli.plan import plan
from mooring.cli.predict import predict
from mooring.cli.serve import serve
from mooring.cli.variables import Verb
from mooring.cli.verify import verify
from mooring.errors import EngineStopped, InvalidInput, MooringError

EXIT_FAILURE, EXIT_USAGE, EXIT_ENGINE_DIED, EXIT_INTERRUPTED = 1, 2, 70, 130

app = typer.Typer(
    name="mooring",
    help="Package any Hugging Face causal language model as one MLflow model, and serve it.",
    epilog="Start with: mooring package demo --name demo --alias champion",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "MOORING"},
)


class InterruptedByUser(MooringError):
    """Ctrl-C."""

    code = "interrupted"


def _interruptible(verb: Callable[..., None]) -> Callable[..., None]:
    """Let Ctrl-C end a verb like any failure, with a line of its own."""

    @wraps(verb)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            verb(*arguments, **options)
        except KeyboardInterrupt:
            raise InterruptedByUser("Interrupted.") from None

    return run


for _verb in (plan, package, serve, predict, chat, info, verify, bench, key):
    app.command(cls=Verb)(_interruptible(_verb))


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mooring {mooring.__version__}")
        raise typer.Exit


@app.callback()
def _mooring(
    version: bool = typer.Option(
        False,
        "--version",
        help="Show the version and exit.",
        callback=_show_version,
        is_eager=True,
        allow_from_autoenv=False,
    ),
) -> None:
    """Package any Hugging Face causal language model as one MLflow model, and serve it."""


def main() -> None:
    """Run the command line.

    Exits with 2 for wrong use, 1 for failure, 70 if the engine died for good, 130 when interrupted.
    """
    as_json = "--json" in sys.argv
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    try:
        app()
    except MooringError as error:
        fail(error, as_json=as_json)
        sys.exit(_exit_code(error))


def _exit_code(error: MooringError) -> int:
    if isinstance(error, InterruptedByUser):
        return EXIT_INTERRUPTED
    if isinstance(error, EngineStopped):
        return EXIT_ENGINE_DIED
    return EXIT_USAGE if isinstance(error, InvalidInput) else EXIT_FAILURE
