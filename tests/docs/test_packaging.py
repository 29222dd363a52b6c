"""The packaging page, with a model that brings its own code."""

from pathlib import Path

from tests.docs.blocks import ROOT
from tests.docs.page import Page
from tests.models import tiny_remote_code


def test_packaging(tmp_path: Path) -> None:
    tiny_remote_code(tmp_path / "my-model")
    with Page(tmp_path) as page:
        page.run(ROOT / "docs" / "packaging.md")
