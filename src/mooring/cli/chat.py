"""`mooring chat`: a conversation in the terminal, streaming, over several turns."""

import json as json_module
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mooring.cli.options import Parameters, TrackingUri, Uri, named_values
from mooring.cli.output import err
from mooring.errors import InvalidInput

if TYPE_CHECKING:
    from mooring.loading.loaded import LoadedModel

HELP = "/reset forgets the conversation, /exit or Ctrl-D ends, Ctrl-C stops an answer."


def chat(
    uri: Uri,
    system: Annotated[str | None, typer.Option(help="System text to begin with.")] = None,
    param: Parameters = None,
    tracking_uri: TrackingUri = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print each answer as one JSON line.")
    ] = False,
) -> None:
    """Talk with a packaged model; each turn remembers the ones before.

    [bold]Examples[/]

    mooring chat models:/demo@champion

    echo "What is MLflow?" | mooring chat models:/demo@champion
    """
    from mooring.api.load import load

    parameters = named_values(param, "--param")
    with load(uri, tracking_uri=tracking_uri) as model:
        model.check(parameters)
        talk = _Talk(model, parameters, system, as_json=json)
        if sys.stdin.isatty():
            err.print(HELP, style="dim")
        talk.run()


class _Talk:
    def __init__(
        self,
        model: "LoadedModel",
        parameters: dict[str, object],
        system: str | None,
        *,
        as_json: bool,
    ) -> None:
        self._model = model
        self._parameters = parameters
        self._opening = [_message("system", system)] if system else []
        self._messages = list(self._opening)
        self._as_json = as_json

    def run(self) -> None:
        while (line := _read_line()) is not None:
            match line.strip():
                case "":
                    continue
                case "/exit" | "/quit":
                    return
                case "/reset":
                    self._messages = list(self._opening)
                case question:
                    self._turn(question)

    def _turn(self, question: str) -> None:
        """Ask, show and remember; a turn that fails or is stopped is forgotten."""
        self._messages.append(_message("user", question))
        try:
            answer = self._answer()
        except InvalidInput as error:
            self._messages.pop()
            if not sys.stdin.isatty():
                raise
            err.print(error.message, style="red", markup=False)
        except KeyboardInterrupt:
            self._messages.pop()
            err.print("(stopped)", style="dim")
        else:
            self._messages.append(_message("assistant", answer))

    def _answer(self) -> str:
        pieces = []
        for text in self._model.stream({"messages": self._messages}, self._parameters):
            pieces.append(text)
            if not self._as_json:
                typer.echo(text, nl=False)
        answer = "".join(pieces)
        message = _message("assistant", answer)
        typer.echo(json_module.dumps(message, ensure_ascii=False) if self._as_json else "")
        return answer


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _read_line() -> str | None:
    """Return the next line, or None at the end of input or when interrupted at the prompt."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None
    try:
        return input("> ")
    except (EOFError, KeyboardInterrupt):
        return None
