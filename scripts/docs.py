"""Write the parts of the documentation that are said elsewhere already; `--check` only compares."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from mooring.errors import EngineError, InvalidInput, Refused
from mooring.generation import SAMPLING_FIELDS, SamplingParams
from mooring.generation.sampling import SamplingField
from mooring.http.errors import MEANINGS
from mooring.settings import ServerLimits, ServiceLimits

DOCS = Path(__file__).parents[1] / "docs"
MOORING = Path(sys.executable).with_name("mooring")
VERBS = ("plan", "package", "serve", "predict", "chat", "info", "verify", "bench", "key")
COLUMNS = 100

CLI_INTRODUCTION = """# The command line

`mooring VERB --help`, as it is printed. Results go to stdout, progress and errors to stderr, so
that `--json` can be piped. The exit code is 0 for success, 1 for failure, 2 for wrong use, 130
after Ctrl-C, and 70 when a server ends because its engine died too often. Every option can be given
by the environment variable that its help names.
"""

TYPES = {
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "strings": "string or list of strings",
    "token_ids": "list of token ids",
    "token_bias": "object of token id to number",
}


def main() -> None:
    """Bring every generated part up to date, or say which are not."""
    pages = {
        DOCS / "cli.md": lambda _: cli_page(),
        DOCS / "parameters.md": lambda text: with_part(text, "parameters", parameter_table()),
        DOCS / "limits.md": lambda text: with_part(text, "limits", limit_table()),
        DOCS / "serving.md": lambda text: with_part(text, "errors", error_table()),
    }
    stale = [page for page, render in pages.items() if update(page, render)]
    if "--check" in sys.argv and stale:
        names = ", ".join(f"docs/{page.name}" for page in stale)
        sys.exit(f"Out of date: {names}. Run scripts/docs.py.")


def update(page: Path, render: Callable[[str], str]) -> bool:
    """Return whether a page was out of date; unless checking, write it."""
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    after = render(before)
    if after != before and "--check" not in sys.argv:
        page.write_text(after, encoding="utf-8")
    return after != before


def cli_page() -> str:
    """Return the help of every verb, at a fixed width and without colours."""
    sections = [f"## mooring {verb}\n\n```text\n{help_of(verb)}\n```\n" for verb in VERBS]
    return "\n".join([CLI_INTRODUCTION, f"```text\n{help_of()}\n```\n", *sections])


def help_of(*arguments: str) -> str:
    """Return what `--help` prints."""
    inherited = {k: os.environ[k] for k in ("PATH", "PYTHONPATH") if k in os.environ}
    printed = subprocess.run(
        [MOORING, *arguments, "--help"],
        env={**inherited, "COLUMNS": str(COLUMNS), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return "\n".join(line.rstrip() for line in printed.strip("\n ").splitlines())


def parameter_table() -> str:
    """Return the table of sampling parameters."""
    neutral = SamplingParams().to_dict()
    lines = ["| name | type | bounds | neutral | meaning |", "|---|---|---|---|---|"]
    for field in SAMPLING_FIELDS:
        value = neutral[field.name]
        shown = "none" if value is None else f"`{str(value).lower()}`"
        lines.append(
            f"| `{field.name}` | {TYPES[field.kind]} | {bounds(field)} | {shown} | {field.doc} |"
        )
    return "\n".join(lines)


def bounds(field: SamplingField) -> str:
    """Say the bounds of a field in words."""
    if field.kind not in ("int", "float", "token_bias"):
        return ""
    above = "above " if field.low_open else ""
    return f"{above}{power_or_number(field.low)} to {power_or_number(field.high)}"


def power_or_number(number: float) -> str:
    """Write very large numbers as the powers of two they are."""
    if abs(number) < 2**30:
        return f"{number:g}"
    exponent = (abs(int(number)) + 1).bit_length() - 1
    return f"-2^{exponent}" if number < 0 else f"2^{exponent} - 1"


def limit_table() -> str:
    """Return the table of limits, from what the settings say of each."""
    lines = ["| limit | default | option, key and variable |", "|---|---|---|"]
    for field in (*fields(ServiceLimits), *fields(ServerLimits)):
        name = field.name.replace("_", "-")
        lines.append(
            f"| {field.metadata['meaning']} | {field.default:,.15g} "
            f"| `--{name}`, `{name}`, `MOORING_SERVE_{field.name.upper()}` |"
        )
    return "\n".join(lines)


def error_table() -> str:
    """Return the table of what clients may be told, from the table the server uses."""
    lines = ["| status | `code` | MLflow's `error_code` | when |", "|---|---|---|---|"]
    for kind, meaning in MEANINGS.items():
        if issubclass(kind, InvalidInput | Refused | EngineError):
            doc = (kind.__doc__ or "").splitlines()[0]
            lines.append(f"| {meaning.status} | `{kind.code}` | `{meaning.mlflow_code}` | {doc} |")
    return "\n".join(lines)


def with_part(text: str, name: str, part: str) -> str:
    """Return a page with one generated part replaced."""
    begin, end = f"<!-- generated by scripts/docs.py: {name} -->", "<!-- end -->"
    pattern = re.escape(begin) + r".*?" + re.escape(end)
    replaced, count = re.subn(
        pattern, lambda _: f"{begin}\n{part}\n{end}", text, count=1, flags=re.DOTALL
    )
    if count == 0:
        sys.exit(f"The page must hold a part `{name}`: {begin} ... {end}")
    return replaced


if __name__ == "__main__":
    main()
