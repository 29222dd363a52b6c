"""Draw docs/images/demo.svg: `make demo` run in an empty folder, as a terminal shows it."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "demo.svg"
COLUMNS = 100


def main() -> None:
    """Run the demo and write the picture."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(Text.assemble(("$ ", "bold green"), ("make demo", "bold")))
    console.print(Text.from_ansi(run_demo()))
    PICTURE.write_text(without_web_fonts(console.export_svg(title="Mooring")), encoding="utf-8")


def run_demo() -> str:
    """Return what the demo prints, with its colours."""
    environment = {
        **os.environ, "FORCE_COLOR": "1", "TTY_INTERACTIVE": "0", "COLUMNS": str(COLUMNS)
    }  # fmt: skip
    environment.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(
            [sys.executable, ROOT / "scripts" / "demo.py"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return ran.stdout.rstrip()


def without_web_fonts(svg: str) -> str:
    """Leave the font to the reader's machine, so that the picture fetches nothing."""
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    main()
