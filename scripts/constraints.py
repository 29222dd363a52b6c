"""Write the versions installed here to constraints.txt: names and versions, no addresses."""

from importlib.metadata import distributions
from pathlib import Path

TARGET = Path(__file__).parent.parent / "constraints.txt"
OWN = {"mooring", "pip", "setuptools", "wheel"}


def main() -> None:
    """Write one `name==version` line per distribution, without local version tags."""
    installed = {d.metadata["Name"].lower(): d.version.partition("+")[0] for d in distributions()}
    lines = [
        f"{name}=={version}\n" for name, version in sorted(installed.items()) if name not in OWN
    ]
    TARGET.write_text(
        "# The versions that Mooring is tested with. Written by `make constraints`.\n"
        + "".join(lines)
    )


if __name__ == "__main__":
    main()
