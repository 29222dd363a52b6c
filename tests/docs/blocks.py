"""The fenced code blocks of a Markdown page."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
)

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block: its language, the words after it, its text and the line where it begins."""

    language: str
    arguments: tuple[str, ...]
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for match in _FENCE.finditer(text):
        language, *arguments = match["info"].split() or [""]
        line = text.count("\n", 0, match.start()) + 1
        blocks.append(Block(language, tuple(arguments), match["text"], line))
    return blocks


def commands_of(script: str) -> list[str]:
    """Split a shell script into its commands; continued lines and here-documents stay whole."""
    commands: list[str] = []
    rest = iter(script.splitlines())
    for line in rest:
        if not line.strip() or line.startswith("#"):
            continue
        command = line
        while command.endswith("\\"):
            command += "\n" + next(rest)
        if here := re.search(r"<<'(\w+)'", command):
            while not command.endswith(f"\n{here[1]}"):
                command += "\n" + next(rest)
        commands.append(command)
    return commands


def session_of(text: str) -> list[tuple[str, str]]:
    """Split a console session into its commands and what each shows."""
    turns: list[tuple[str, str]] = []
    rest = text.splitlines()
    while rest:
        line = rest.pop(0)
        assert line.startswith("$ "), f"A console block begins with `$ `. Found: {line}"
        command = line.removeprefix("$ ")
        while command.endswith("\\"):
            command += "\n" + rest.pop(0)
        shown = []
        while rest and not rest[0].startswith("$ "):
            shown.append(rest.pop(0))
        turns.append((command, "\n".join(shown)))
    return turns
