"""The front page does what it says, in an empty folder."""

from pathlib import Path

from tests.docs.blocks import ROOT
from tests.docs.page import Page


def test_readme(tmp_path: Path) -> None:
    with Page(tmp_path) as page:
        page.run(ROOT / "README.md")
