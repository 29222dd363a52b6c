"""The bundled demo model: its files, and the questions and dialogues it answers exactly."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

__all__ = ["Dialogue", "Question", "Turn", "dialogues", "questions", "snapshot_path"]


@dataclass(frozen=True)
class Question:
    """A question the demo model knows, with the answer it gives word for word."""

    topic: str
    language: str
    question: str
    answer: str


@dataclass(frozen=True)
class Turn:
    """One exchange of a dialogue: what the user says and what the model must answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Dialogue:
    """A conversation whose later answers are only right when the earlier turns were seen."""

    topic: str
    language: str
    turns: tuple[Turn, ...]


def snapshot_path() -> Path:
    """Return the folder of the demo model, laid out like a Hugging Face snapshot."""
    return _resource("model")


def questions() -> list[Question]:
    """Return every question of the corpus, in file order."""
    return [Question(**record) for record in _records("corpus.jsonl")]


def dialogues() -> list[Dialogue]:
    """Return the multi-turn dialogues, in file order."""
    return [
        Dialogue(
            topic=record["topic"],
            language=record["language"],
            turns=tuple(Turn(**turn) for turn in record["turns"]),
        )
        for record in _records("dialogues.jsonl")
    ]


def _resource(name: str) -> Path:
    return Path(str(files(__name__).joinpath(name)))


def _records(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _resource(name).read_text("utf-8").splitlines()]
