"""The formats by name: how a model writes calls of tools, and how its answers are read."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from mooring.errors import UnsupportedParameter
from mooring.protocol.tool_calls.grammar import Writing
from mooring.protocol.tool_calls.hermes import HermesParser
from mooring.protocol.tool_calls.llama3 import Llama3Parser
from mooring.protocol.tool_calls.mistral import MistralParser
from mooring.protocol.tool_calls.parser import CallParser
from mooring.protocol.tool_calls.pieces import CallStart, Piece, SaidText
from mooring.protocol.tool_calls.use import ToolUse


def _long_id() -> str:
    return f"call_{uuid4().hex[:24]}"


def _short_id() -> str:
    """Return nine letters and digits: Mistral's chat templates take nothing else."""
    return uuid4().hex[:9]


class CallReader:
    """Reads one answer, and leaves out the calls after the first where only one is wanted."""

    def __init__(self, parser: CallParser, *, only_first: bool) -> None:
        self._parser = parser
        self._only_first = only_first
        self._calls = 0

    def push(self, text: str) -> list[Piece]:
        """Add what the model said next, and return what is sure now."""
        return [piece for piece in self._parser.push(text) if self._wanted(piece)]

    def finish(self) -> list[Piece]:
        """Return what is left; the answer has ended."""
        return [piece for piece in self._parser.finish() if self._wanted(piece)]

    def _wanted(self, piece: Piece) -> bool:
        self._calls += isinstance(piece, CallStart)
        return isinstance(piece, SaidText) or self._calls <= 1 or not self._only_first


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """One way of writing calls.

    `marks` are tokens that a tokenizer may count as special, and whose text the parser must see.
    """

    name: str
    parser: type[CallParser]
    writing: Writing
    marks: tuple[str, ...]
    new_id: Callable[[], str] = _long_id

    def reader(self, use: ToolUse, *, eager: bool) -> CallReader:
        """Return what reads one answer to a request that may use tools like this.

        A demanded call that was cut off is a call all the same: nothing else can have been begun.
        """
        demanded = use.mode == "required"
        reader = CallReader(self.parser(eager=eager or demanded), only_first=not use.parallel)
        if demanded:
            reader.push(self.writing.opening)
        return reader


TOOL_FORMATS: dict[str, ToolFormat] = {
    format.name: format
    for format in (
        ToolFormat(
            "hermes",
            HermesParser,
            Writing(
                before='<tool_call>\n{"name": "',
                between='", "arguments": ',
                after="}\n</tool_call>",
                separator="\n",
                trigger="<tool_call>",
            ),
            marks=("<tool_call>", "</tool_call>"),
        ),
        ToolFormat(
            "llama3",
            Llama3Parser,
            Writing(
                before='{"name": "',
                between='", "parameters": ',
                after="}",
                separator="; ",
                trigger="<|python_tag|>",
                bare=True,
            ),
            marks=("<|python_tag|>",),
        ),
        ToolFormat(
            "mistral",
            MistralParser,
            Writing(
                trigger="[TOOL_CALLS]",
                opening="[TOOL_CALLS]",
                begin="[",
                before='{"name": "',
                between='", "arguments": ',
                after="}",
                separator=", ",
                end="]",
            ),
            marks=("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"),
            new_id=_short_id,
        ),
    )
}
"""The formats that can be read, by the names of `--tool-format`."""


def chosen_format(setting: str, found: str | None) -> ToolFormat | None:
    """Return the format that the server was told, with "auto" the one `found`; None for "none".

    Raises `UnsupportedParameter` where none was found.
    """
    if setting != "auto":
        return TOOL_FORMATS.get(setting)
    if found is None:
        raise UnsupportedParameter(
            "`tools` are not supported with this model: its chat template does not show a known "
            "way of calling them. Leave them out, or start the server with --tool-format.",
            param="tools",
        )
    return TOOL_FORMATS[found]
