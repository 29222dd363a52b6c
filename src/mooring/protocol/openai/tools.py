"""Tools as OpenAI's clients describe them, and which of them a client wants to be called."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from mooring.errors import InvalidParameter, UnsupportedParameter
from mooring.generation import Tool
from mooring.protocol.body import StrictBody
from mooring.protocol.tool_calls.use import ToolUse

MAX_TOOLS = 128

FUNCTION_NAME = r"^[a-zA-Z0-9_-]{1,64}$"

_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


class Function(StrictBody):
    """A function that a model may call; without `parameters` it takes none."""

    name: str = Field(pattern=FUNCTION_NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def tool(self) -> Tool:
        """Return what the model is told."""
        return tool_of(self.name, self.description, self.parameters, self.strict)


class FunctionTool(StrictBody):
    """A tool of `/v1/chat/completions`."""

    type: Literal["function"]
    function: Function


def tool_of(
    name: str,
    description: str | None,
    parameters: Mapping[str, Any] | None,
    strict: bool | None,
) -> Tool:
    """Return a tool as it was described; without parameters it takes none."""
    return Tool(name, description, parameters or _NO_PARAMETERS, bool(strict))


def tool_use(tools: Sequence[Tool], choice: Any, parallel: bool | None) -> ToolUse | None:
    """Return which tools an answer may call; None for none.

    `choice` is `tool_choice` as it was sent, the name of a function at the top level or inside
    `function`. With "none" the model is not told of any tool.
    """
    _check_tools(tools)
    name = _named(choice)
    if choice not in (None, "none") and not tools:
        raise InvalidParameter(
            "`tool_choice` may only be given with `tools`. Leave it out, or send tools.",
            param="tool_choice",
        )
    if not tools or choice == "none":
        return None
    use = ToolUse(tuple(tools), parallel=parallel is not False)
    if choice in (None, "auto"):
        return use
    if choice == "required":
        return ToolUse(use.tools, "required", use.tools, use.parallel)
    called = tuple(tool for tool in tools if tool.name == name)
    if not called:
        raise InvalidParameter(
            f"`tool_choice` must name one of `tools`. Given: {str(name)[:64]!r}.",
            param="tool_choice",
        )
    return ToolUse(use.tools, "required", called, parallel=False)


def _check_tools(tools: Sequence[Tool]) -> None:
    if len(tools) > MAX_TOOLS:
        raise InvalidParameter(
            f"`tools` must hold at most {MAX_TOOLS} tools. Given: {len(tools)}.", param="tools"
        )
    names = [tool.name for tool in tools]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InvalidParameter(
                f"The names of `tools` must differ. Given twice: {name}.", param=f"tools[{index}]"
            )


def _named(choice: Any) -> str | None:
    """Return the name of the one function to call; refuse what is no choice."""
    if choice is None or choice in ("none", "auto", "required"):
        return None
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind in ("allowed_tools", "custom"):
        raise UnsupportedParameter(
            f'`tool_choice` of type "{kind}" is not supported. Send only the tools that may be '
            'called, with "auto" or "required".',
            param="tool_choice",
        )
    if kind == "function" and isinstance(choice, Mapping):
        inside = choice.get("function", choice)
        name = inside.get("name") if isinstance(inside, Mapping) else None
        if isinstance(name, str):
            return name
    raise InvalidParameter(
        '`tool_choice` must be "none", "auto", "required" or an object that names a function. '
        f"Given: {str(choice)[:40]!r}.",
        param="tool_choice",
    )
