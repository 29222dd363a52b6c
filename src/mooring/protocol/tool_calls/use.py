"""Which tools an answer may call, or has to."""

from dataclasses import dataclass
from typing import Literal

from mooring.generation import Tool


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools that a model is told of, and what it may do with them.

    With the mode `auto` it may say text or call; with `required` it must call one of `callable`.
    `parallel` allows several calls in one answer.
    """

    tools: tuple[Tool, ...]
    mode: Literal["auto", "required"] = "auto"
    callable: tuple[Tool, ...] = ()
    parallel: bool = True
