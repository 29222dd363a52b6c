"""Environments of other servers: made from the package index where they are missing, then kept."""

import subprocess
import sys
import tempfile
from pathlib import Path

ENVIRONMENTS = Path(tempfile.gettempdir()) / "mooring-real-servers"
INSTALL_SECONDS = 1800


def environment_of(package: str, *more: str, without: tuple[str, ...] = ()) -> Path:
    """Return the `bin` of an environment with `package` (name==version), from wheels alone.

    `more` is installed with it. Packages of `without` are taken out again: what is optional and
    does not fit the rest.
    """
    folder = ENVIRONMENTS / package.replace("==", "-")
    made = folder / "made"
    if not made.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet"]
        wheels = [*pip, "install", "--only-binary", ":all:", package, *more]
        subprocess.run(wheels, check=True, timeout=INSTALL_SECONDS)
        if without:
            subprocess.run([*pip, "uninstall", "--yes", *without], check=True)
        made.touch()
    return folder / "bin"
