"""The doors of the command line: `mooring predict` and `mooring chat`, as real processes."""

import json
import subprocess
from pathlib import Path

import pytest

from mooring.api.package import PackagedModel
from tests.doors.answers import ANSWERS, CONVERSATIONS, EXPECTED, FIRST, QUESTIONS
from tests.processes import BIN

pytestmark = pytest.mark.usefixtures("demo")
URI = "models:/demo@champion"


def mooring(*arguments: object, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    command = [str(BIN / "mooring"), *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)


def test_predict_answers_each_prompt_on_a_line() -> None:
    ran = mooring("predict", URI, *QUESTIONS)
    assert (ran.returncode, ran.stdout.splitlines()) == (0, EXPECTED)


def test_predict_reads_rows_and_prints_json(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    lines = [QUESTIONS[0], {"prompt": QUESTIONS[1]}, {"messages": CONVERSATIONS[2]}]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ran = mooring("predict", URI, "--input-file", rows, "--json")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, {"candidates": EXPECTED[:3]})


def test_predict_streams() -> None:
    ran = mooring("predict", URI, FIRST, "--stream", "-p", "temperature=0")
    assert (ran.returncode, ran.stdout) == (0, ANSWERS[FIRST] + "\n")


def test_chat_remembers_the_turns_before(demo: PackagedModel) -> None:
    from mooring.demo import dialogues

    turns = dialogues()[0].turns
    ran = mooring("chat", demo.uri, stdin="".join(f"{turn.question}\n" for turn in turns))
    assert (ran.returncode, ran.stdout.splitlines()) == (0, [turn.answer for turn in turns])


def test_chat_forgets_when_told_and_prints_json() -> None:
    ran = mooring("chat", URI, "--json", stdin=f"{FIRST}\n/reset\n{QUESTIONS[1]}\n/exit\n")
    said = [json.loads(line)["content"] for line in ran.stdout.splitlines()]
    assert (ran.returncode, said) == (0, EXPECTED[:2])
