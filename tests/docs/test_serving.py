"""The serving page: what it shows is so, and it leaves nothing out."""

import re
from pathlib import Path

from mooring.http.app import create_app
from mooring.protocol.openai.chat import ChatBody
from mooring.protocol.openai.completions import CompletionBody
from mooring.service.host import ModelHost, ModelIdentity
from mooring.settings import ServerSettings
from tests.docs.blocks import ROOT
from tests.docs.page import Page

SERVING = ROOT / "docs" / "serving.md"
PARAMETERS = ROOT / "docs" / "parameters.md"


def test_serving(tmp_path: Path) -> None:
    with Page(tmp_path) as page:
        page.run(SERVING)


def test_the_table_has_every_route() -> None:
    identity = ModelIdentity("demo", "1", "0" * 64, 0, ("demo",))
    app = create_app(ModelHost(identity), ServerSettings())
    routes = {
        f"{method} {route.path.replace(':path', '')}"  # type: ignore[attr-defined]
        for route in app.routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    rows = [line for line in SERVING.read_text().splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`((?:GET|POST) /[^`]*)`", row)}
    assert named == routes


def test_every_field_of_openai_is_said_to_be_honoured_or_refused() -> None:
    section = SERVING.read_text().partition("### Fields")[2].partition("\n#")[0]
    told = set(re.findall(r"`(\w+)`", section + PARAMETERS.read_text()))
    assert {*ChatBody.model_fields, *CompletionBody.model_fields} - told == set()
