"""The page on metrics, log lines and traces."""

from pathlib import Path

from tests.docs.blocks import ROOT
from tests.docs.page import Page


def test_observability(tmp_path: Path) -> None:
    with Page(tmp_path) as page:
        page.run(ROOT / "docs" / "observability.md")
