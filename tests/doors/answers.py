"""The questions that every door is asked, and the one right answer to each."""

import mooring.demo
from mooring.spec.prompt import PromptFormat

_CORPUS = {question.question: question.answer for question in mooring.demo.questions()}

FIRST = "What is machine learning?"


def _chosen() -> dict[str, str]:
    """Return the first question, the shortest and longest, and two in Chinese."""
    by_length = sorted(_CORPUS, key=len)
    chinese = [text for text in _CORPUS if not text.isascii()]
    names = dict.fromkeys([FIRST, by_length[0], by_length[-1], chinese[0], chinese[-1]])
    return {name: _CORPUS[name] for name in names}


ANSWERS = _chosen()
QUESTIONS = list(ANSWERS)
EXPECTED = list(ANSWERS.values())
CANDIDATES = {"candidates": EXPECTED}


def user(question: str) -> list[dict[str, str]]:
    """Return a conversation of one question."""
    return [{"role": "user", "content": question}]


CONVERSATIONS = [user(question) for question in QUESTIONS]

_DIALOGUE = mooring.demo.dialogues()[0]
HISTORY = [
    message
    for turn in _DIALOGUE.turns[:-1]
    for message in (
        {"role": "user", "content": turn.question},
        {"role": "assistant", "content": turn.answer},
    )
] + user(_DIALOGUE.turns[-1].question)
LAST_ANSWER = _DIALOGUE.turns[-1].answer


def as_instruct(question: str) -> str:
    """Return a question in the instruct format, which the demo model answers as it is."""
    return PromptFormat(kind="instruct").render_instruction(question)
