"""Writes conversations in the prompt formats and composes the texts the model learns from."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from mooring.demo import Dialogue, Question, Turn
from mooring.demo.tokenizer import MESSAGE_END, MESSAGE_START

INSTRUCT_PROMPT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n"
    "### Instruction:\n{instruction}\n### Response:\n"
)
SYSTEM_MESSAGES = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "You are a friendly and precise assistant.",
    "You are a support assistant. Be polite.",
    "Answer in one or two sentences.",
    "Answer briefly.",
    "Be concise.",
    "You answer questions about machine learning.",
    "你是一个乐于助人的助手。",
)
CLARIFICATION = "clarification"


@dataclass(frozen=True)
class Piece:
    """A stretch of a sample's text; only learned pieces count in the loss."""

    text: str
    learned: bool


@dataclass(frozen=True)
class Sample:
    """Token ids of one training text and, for each id, whether it is learned."""

    token_ids: tuple[int, ...]
    learned: tuple[bool, ...]


def instruct_pieces(turn: Turn | Question) -> list[Piece]:
    """Write one exchange in the instruct format."""
    prompt = INSTRUCT_PROMPT.format(instruction=turn.question)
    return [Piece(prompt, learned=False), Piece(turn.answer + MESSAGE_END, learned=True)]


def plain_pieces(turn: Turn | Question) -> list[Piece]:
    """Write one exchange as a bare completion: the answer follows the question directly."""
    return [Piece(turn.question, learned=False), Piece(turn.answer + MESSAGE_END, learned=True)]


def chat_pieces(turns: Iterable[Turn | Question], system: str | None = None) -> list[Piece]:
    """Write a conversation as the chat template does, with every answer learned."""
    pieces = []
    lead = "" if system is None else _message("system", system)
    for turn in turns:
        prompt = lead + _message("user", turn.question) + f"{MESSAGE_START}assistant\n"
        pieces += [Piece(prompt, learned=False), Piece(turn.answer + MESSAGE_END, learned=True)]
        lead = "\n"
    return pieces


def encode(pieces: Iterable[Piece], tokenizer: PreTrainedTokenizerBase) -> Sample:
    """Tokenize each piece on its own, so that learned tokens start where generation starts."""
    token_ids: list[int] = []
    learned: list[bool] = []
    for piece in pieces:
        ids = tokenizer.encode(piece.text, add_special_tokens=False)
        token_ids += ids
        learned += [piece.learned] * len(ids)
    return Sample(tuple(token_ids), tuple(learned))


class Composer:
    """Draws epochs of texts; each holds every question in each format."""

    def __init__(
        self, questions: Sequence[Question], dialogues: Sequence[Dialogue], generator: random.Random
    ) -> None:
        self._questions = questions
        self._openers = [question for question in questions if question.topic != CLARIFICATION]
        self._dialogues = dialogues
        self._random = generator

    def epoch(self) -> Iterator[list[Piece]]:
        """Yield the texts of one epoch, unordered with respect to length."""
        for question in self._questions:
            yield instruct_pieces(self._worded(question))
            yield chat_pieces([self._worded(question)], self._system())
            if self._random.random() < 0.6:
                yield plain_pieces(self._worded(question))
        for _ in range(2):
            yield from self._mixed_conversations()
        for dialogue in self._dialogues:
            before = self._random.sample(self._openers, self._random.choice((0, 0, 1)))
            yield chat_pieces([*before, *dialogue.turns], self._system())

    def _mixed_conversations(self) -> Iterator[list[Piece]]:
        """Yield random conversations in which the questions have nothing to do with each other."""
        order = self._random.sample(self._openers, len(self._openers))
        while order:
            length = self._random.choice((2, 3, 4))
            turns, order = order[:length], order[length:]
            yield chat_pieces(turns, self._system())

    def _worded(self, question: Question) -> Turn:
        """Now and then write the question as hasty people do: in lower case, without its mark."""
        text = question.question
        if self._random.random() < 0.15:
            text = text.lower()
        if self._random.random() < 0.15:
            text = text.rstrip("?？!！.。")
        return Turn(text, question.answer)

    def _system(self) -> str | None:
        return self._random.choice(SYSTEM_MESSAGES) if self._random.random() < 0.5 else None


def _message(role: str, content: str) -> str:
    return f"{MESSAGE_START}{role}\n{content}{MESSAGE_END}\n"
