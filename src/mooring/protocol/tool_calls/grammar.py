"""The grammars of answers that call: a model's own way of writing calls, around schemas."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass

from mooring.generation import JSON_WHITESPACE, Grammar, Tool
from mooring.protocol.tool_calls.use import ToolUse

_ANY_ARGUMENTS = {"type": "object"}
_WRITTEN = {"whitespace_pattern": JSON_WHITESPACE}


@dataclass(frozen=True, slots=True)
class Writing:
    """How a model writes calls: `before` a name, `between` name and arguments, `after` them.

    `separator` stands between two calls. `opening` begins the answer for the model and ends with
    what may be a special token, which no grammar can demand; `begin` and `end` stand around all.
    Within text calls begin with `trigger`; where they are `bare` also with the answer, as JSON.
    """

    before: str
    between: str
    after: str
    separator: str
    trigger: str
    opening: str = ""
    begin: str = ""
    end: str = ""
    bare: bool = False

    def may_begin(self, special: Collection[str]) -> bool:
        """Whether a grammar can let calls begin, where those marks are `special` tokens.

        It names a special token by its text, and only one in angle brackets.
        """
        return self.trigger not in special or self.trigger.startswith("<")


def required_calls(use: ToolUse, writing: Writing) -> Grammar:
    """Return the grammar of one call of `use.callable`, or of several where that is allowed."""
    lines = [f"start: {_group(use, writing)}", *_calls(use.callable, writing, writing.before)]
    return Grammar("lark", "\n".join(lines) + "\n", param="tool_choice")


def possible_calls(
    use: ToolUse, writing: Writing, special: Collection[str], *, param: str
) -> Grammar:
    """Return the grammar of text with calls of `use.tools`, those of strict ones by their schemas.

    A trigger among the tokenizer's `special` tokens may come as that token, or as text.
    """
    tools = [tool if tool.strict else Tool(tool.name, None, _ANY_ARGUMENTS) for tool in use.tools]
    before = writing.before.removeprefix(writing.trigger)
    each_is_triggered = before != writing.before
    group = "call" if each_is_triggered else _group(use, writing)
    trigger = re.escape(writing.trigger).replace("/", r"\/")
    token = f" | TEXT {writing.trigger}" if writing.trigger in special else ""
    no_object = r" & ~/[\s\x1c-\x1f]*\{(.|\n)*/" if writing.bare else ""
    several = "*" if use.parallel else "?"
    start = (
        f"{group} | TEXT | opened {group}" if writing.bare else f"(opened {group}){several} TEXT"
    )
    lines = [
        f"start: {start}",
        f"opened: OPENED{token}",
        f"OPENED: TEXT {json.dumps(writing.trigger)}",
        rf"TEXT: /(.|\n)*/ & ~/(.|\n)*{trigger}(.|\n)*/{no_object}",
        *_calls(tools, writing, before),
    ]
    return Grammar("lark", "\n".join(lines) + "\n", param=param)


def _group(use: ToolUse, writing: Writing) -> str:
    """Return the rule of a call, or of several, with what stands between and around them."""
    more = f" ({json.dumps(writing.separator)} call)*" if use.parallel else ""
    return f"{json.dumps(writing.begin)} call{more} {json.dumps(writing.end)}"


def _calls(tools: Collection[Tool], writing: Writing, before: str) -> list[str]:
    lines = [f"call: {' | '.join(f'call_{number}' for number in range(len(tools)))}"]
    for number, tool in enumerate(tools):
        head = json.dumps(f"{before}{tool.name}{writing.between}")
        lines.append(f"call_{number}: {head} arguments_{number} {json.dumps(writing.after)}")
        schema = {**tool.parameters, "x-guidance": _WRITTEN}
        lines.append(f"arguments_{number}: %json {json.dumps(schema)}")
    return lines
