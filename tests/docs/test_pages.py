"""No block, link or generated part of the documentation goes unchecked."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mooring.generation import SAMPLING_FIELDS
from tests.docs.blocks import PAGES, ROOT, blocks_of, commands_of, session_of
from tests.docs.comparing import difference
from tests.docs.page import LANGUAGES, SHOWN_ONLY

RUN = {
    "README.md", "getting-started.md", "observability.md", "packaging.md", "production.md",
    "serving.md",
}  # fmt: skip
PICTURE = ROOT / "docs" / "images" / "demo.svg"

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


@every_page
def test_every_block_has_a_language_that_the_tests_know(page: Path) -> None:
    blocks = blocks_of(page)
    assert page.read_text().count("```") - page.read_text().count("````") == 2 * len(blocks)
    assert {block.language for block in blocks} <= LANGUAGES
    if page.name not in RUN:
        assert {block.language for block in blocks} <= {SHOWN_ONLY}
    for block in blocks:
        assert not block.arguments or block.language == "json"


@every_page
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.is_file(), target
        if anchor:
            assert anchor in anchors_of(linked), target


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that the headings of a page get."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def test_every_page_is_reached_from_the_front_page() -> None:
    linked = set(re.findall(r"\]\((docs/[\w.-]+\.md)", (ROOT / "README.md").read_text()))
    assert linked == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}


def test_generated_parts_are_up_to_date() -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / "scripts" / "docs.py", "--check"], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_parameter_table_has_every_parameter_in_order() -> None:
    text = (ROOT / "docs" / "parameters.md").read_text()
    named = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert named == [field.name for field in SAMPLING_FIELDS]


def test_the_picture_shows_the_demo_and_fetches_nothing() -> None:
    picture = PICTURE.read_text()
    assert "@font-face" not in picture
    assert not re.search(r"url\((?!#)|href=", picture)
    shown = re.sub(r"<[^>]+>|\s+|&#160;", "", picture)
    for words in ("make demo", "Packaged models:/demo/1", "Machine learning is a way"):
        assert words.replace(" ", "") in shown


def test_what_differs_is_found() -> None:
    assert difference("a 2.9 MB b\n...\nend", "a 17 kB b\none\ntwo\nend\n") is None
    assert difference("x...z", "x y z") is None
    assert difference("...", "anything\nat all") is None
    assert difference("a\n...", "a") is None
    assert difference("at http://127.0.0.1:8000", "at http://127.0.0.1:51234") is None
    found = difference("one\ntwo", "one\nthree")
    assert found is not None
    assert "-two" in found
    assert "+three" in found
    assert difference("x.z", "xyz") is not None
    assert difference("one", "one\ntwo") is not None


def test_scripts_and_sessions_are_split_into_commands() -> None:
    script = "# why\na \\\n  b\n\ncat > f <<'EOF'\nline\nEOF\nc\n"
    assert commands_of(script) == ["a \\\n  b", "cat > f <<'EOF'\nline\nEOF", "c"]
    assert session_of("$ a \\\n  b\nshown\n\nmore\n$ c\n") == [
        ("a \\\n  b", "shown\n\nmore"),
        ("c", ""),
    ]
