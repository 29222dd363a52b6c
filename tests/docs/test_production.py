"""The page on running in production: its configuration, keys and answers."""

from pathlib import Path

from tests.docs.blocks import ROOT
from tests.docs.page import Page


def test_production(tmp_path: Path) -> None:
    with Page(tmp_path) as page:
        page.run(ROOT / "docs" / "production.md")
