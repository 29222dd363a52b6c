"""The door of Ray Serve: a replica killed in mid-stream, and more requests than may wait."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mooring.api.package import PackagedModel
from tests.doors.answers import ANSWERS, QUESTIONS

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def told(demo: PackagedModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what came of it, see `ray_door`."""
    folder = tmp_path_factory.mktemp("ray")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--target", str(folder), "--constraint", str(ROOT / "constraints.txt"),
            "ray[serve]==2.60.0",
        ],
        check=True,
        timeout=900,
    )  # fmt: skip
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        [
            sys.executable, ROOT / "tests" / "doors" / "ray_door.py",
            f"models:/demo/{demo.version}", QUESTIONS[0],
        ],
        env={**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-20000:]
    # Ray says something on the same stream.
    (line,) = [line for line in finished.stdout.splitlines() if line.startswith('{"before"')]
    told: dict[str, Any] = json.loads(line)
    return told


def test_a_replica_answers_as_every_door_does(told: dict[str, Any]) -> None:
    assert told["before"] == ANSWERS[QUESTIONS[0]]


def test_an_answer_whose_replica_is_killed_breaks_off_and_the_next_are_right(
    told: dict[str, Any],
) -> None:
    broken = told["broken"]
    # What was said before is the beginning of the answer, and its end is no clean one.
    assert broken["first"]
    assert broken["error"] == "RemoteProtocolError"
    assert told["after"] == ANSWERS[QUESTIONS[0]]
    assert told["pid"] != broken["pid"]


def test_more_requests_than_may_wait_are_refused_with_503(told: dict[str, Any]) -> None:
    assert set(told["statuses"]) == {200, 503}
    assert told["statuses"].count(200) >= 2
    assert told["last"] == ANSWERS[QUESTIONS[0]]
