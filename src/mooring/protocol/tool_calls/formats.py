"""The formats by name: how a model writes calls of tools, and how its answers are read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

from mooring.protocol.tool_calls.hermes import HermesParser
from mooring.protocol.tool_calls.llama3 import Llama3Parser
from mooring.protocol.tool_calls.mistral import MistralParser
from mooring.protocol.tool_calls.parser import CallParser
from mooring.protocol.tool_calls.pieces import Piece


def _long_id() -> str:
    return f"call_{uuid4().hex[:24]}"


def _short_id() -> str:
    """Return nine letters and digits: Mistral's chat templates take nothing else."""
    return uuid4().hex[:9]


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """One way of writing calls.

    `marks` are tokens that a tokenizer may count as special, and whose text the parser must see.
    """

    name: str
    parser: type[CallParser]
    marks: tuple[str, ...]
    new_id: Callable[[], str] = _long_id

    def read(self, text: str) -> Iterator[Piece]:
        """Yield the pieces of a whole answer."""
        parser = self.parser(eager=False)
        yield from parser.push(text)
        yield from parser.finish()


TOOL_FORMATS: dict[str, ToolFormat] = {
    format.name: format
    for format in (
        ToolFormat("hermes", HermesParser, ("<tool_call>", "</tool_call>")),
        ToolFormat("llama3", Llama3Parser, ("<|python_tag|>",)),
        ToolFormat(
            "mistral", MistralParser, ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"), new_id=_short_id
        ),
    )
}
"""The formats that can be read, by the names of `--tool-format`."""
