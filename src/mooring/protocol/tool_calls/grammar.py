"""The grammar of an answer that has to call: a model's own way of writing calls, around schemas."""

import json
from dataclasses import dataclass

from mooring.generation import Grammar
from mooring.protocol.tool_calls.use import ToolUse


@dataclass(frozen=True, slots=True)
class Writing:
    """How a model writes calls: `before` a name, `between` name and arguments, `after` them.

    `separator` stands between two calls. `opening` begins the answer for the model and ends with
    what may be a special token, which no grammar can demand; `begin` and `end` stand around all.
    """

    before: str
    between: str
    after: str
    separator: str
    opening: str = ""
    begin: str = ""
    end: str = ""


def required_calls(use: ToolUse, writing: Writing) -> Grammar:
    """Return the grammar of one call of `use.callable`, or of several where that is allowed."""
    more = f" ({json.dumps(writing.separator)} call)*" if use.parallel else ""
    around = [json.dumps(text) for text in (writing.begin, writing.end)]
    lines = [
        f"start: {around[0]} call{more} {around[1]}",
        f"call: {' | '.join(f'call_{number}' for number in range(len(use.callable)))}",
    ]
    for number, tool in enumerate(use.callable):
        head = json.dumps(f"{writing.before}{tool.name}{writing.between}")
        lines.append(f"call_{number}: {head} arguments_{number} {json.dumps(writing.after)}")
        lines.append(f"arguments_{number}: %json {json.dumps(tool.parameters)}")
    return Grammar("lark", "\n".join(lines) + "\n", param="tool_choice")
