"""The journey works, its hub model stood in for by the demo model: an MPT as well."""

from pathlib import Path

from mooring.demo import snapshot_path
from tests.docs.blocks import ROOT
from tests.docs.page import Page
from tests.hub_server import hub_server


def test_getting_started(tmp_path: Path) -> None:
    with hub_server({"mosaicml/mpt-7b-instruct": snapshot_path()}) as hub:
        environment = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": "0",
        }
        with Page(tmp_path, environment) as page:
            page.run(ROOT / "docs" / "getting-started.md")
