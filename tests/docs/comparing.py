"""Compare what a page shows with what was really shown."""

import difflib
import re

# Differs from run to run and from machine to machine: sizes, times, speeds, what computes.
_VARYING = (
    (r"\d[\d.,]*(?= (?:B|kB|MB|GB|TB|s|tokens/s)\b)", "N"),
    (r"\b(?:k|M|G|T)?B\b", "B"),
    (r"\b(?:float32|bfloat16|float16)\b", "DTYPE"),
    (r"\bfree (?:RAM|GPU memory)\b", "free MEMORY"),
    (r"\bon (?:cpu|cuda|mps)\b", "on DEVICE"),
    (r"\b[0-9a-f]{12,64}\b", "HEX"),
    (r"\b(?:localhost|127\.0\.0\.1):\d+", "ADDRESS"),
    (r'(?<="created":)\d+', "N"),
    (r"[─━]+", "─"),
    (r"[ \t]+", " "),
)


def difference(expected: str, actual: str) -> str | None:
    """Return None if `actual` is as `expected`, else both side by side.

    A line `...` stands for any lines, `...` within a line for any text of it.
    """
    expected, actual = _normal(expected), _normal(actual)
    if re.fullmatch(_pattern(expected), actual + "\n"):
        return None
    return "\n".join(
        difflib.unified_diff(
            expected.splitlines(), actual.splitlines(), "shown by the page", "really", lineterm=""
        )
    )


def _normal(text: str) -> str:
    for pattern, instead in _VARYING:
        text = re.sub(pattern, instead, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _pattern(expected: str) -> str:
    return "".join(
        r"(?:.*\n)*" if line.strip() == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
        for line in expected.splitlines()
    )
