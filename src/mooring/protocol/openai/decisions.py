"""`/v1/decisions`: questions as the model is asked them, and answers from their probabilities."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mooring.errors import InvalidParameter
from mooring.generation import Conversation, Message
from mooring.protocol.body import parse_body
from mooring.protocol.messages import ROLES
from mooring.protocol.openai.decision_bodies import (
    ChoiceBody,
    DecisionBody,
    PredicateBody,
    QuestionBody,
    ScoreBody,
    text_of,
)

_TRUE, _FALSE = "true", "false"


@dataclass(frozen=True, slots=True)
class Question:
    """A question as the model is asked it, and the answers to choose from in order.

    `values` are what the client calls the answers.
    """

    kind: Literal["predicate", "choice", "score"]
    name: str | None
    prompt: Conversation
    answers: tuple[str, ...]
    values: tuple[str | bool, ...]

    def body(self, probabilities: Sequence[float]) -> dict[str, Any]:
        """Return the answer, from the probability of each of `answers`."""
        if self.kind == "predicate":
            return {"type": "predicate", "name": self.name, "probability": probabilities[0]}
        shown: list[dict[str, Any]] = []
        for place, (value, probability) in enumerate(zip(self.values, probabilities, strict=True)):
            named = {"value": place, "label": value} if self.kind == "score" else {"value": value}
            shown.append({**named, "probability": probability})
        best = max(range(len(probabilities)), key=lambda place: probabilities[place])
        found: dict[str, Any] = {"choice": self.values[best]}
        if self.kind == "score":
            found = {"score": sum(place * share for place, share in enumerate(probabilities))}
        return {
            "type": self.kind,
            "name": self.name,
            **found,
            "confidence": probabilities[best],
            "probabilities": shown,
        }


@dataclass(frozen=True, slots=True)
class DecisionCall:
    """Questions about one input."""

    model: str
    questions: tuple[Question, ...]


def parse_decisions(body: bytes) -> DecisionCall:
    """Parse the body of `/v1/decisions`; raise an `InvalidInput` naming the field."""
    asked = parse_body(DecisionBody, body)
    messages = _messages(asked)
    questions = tuple(
        _question(question, messages, f"questions[{number}]")
        for number, question in enumerate(asked.questions)
    )
    return DecisionCall(asked.model, questions)


def decision_body(
    model: str, answers: Sequence[dict[str, Any]], *, tokens: int, cached_tokens: int
) -> dict[str, Any]:
    """Return the answer to all questions, and the tokens that were read for them."""
    return {
        "model": model,
        "answers": list(answers),
        "usage": {
            "input_tokens": tokens,
            "input_tokens_details": {"cached_tokens": cached_tokens, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens,
        },
    }


def _messages(asked: DecisionBody) -> tuple[Message, ...]:
    if isinstance(asked.input, str):
        return (Message("user", asked.input),)
    if not asked.input:
        raise InvalidParameter("`input` must hold at least one message. Given: 0.", param="input")
    return tuple(Message(ROLES[one.role], text_of(one.content)) for one in asked.input)


def _question(body: QuestionBody, messages: Sequence[Message], where: str) -> Question:
    values: tuple[str | bool, ...]
    options: list[tuple[str, str | None]]
    match body:
        case PredicateBody():
            values, options = (True, False), [(_TRUE, None), (_FALSE, None)]
            task = f"Is that true? Answer with one word: {_TRUE} or {_FALSE}."
        case ChoiceBody():
            values = tuple(option.value for option in body.choices)
            names = _names(values)
            options = [(n, o.description) for n, o in zip(names, body.choices, strict=True)]
            task = f"Choose one:\n{_listed(options)}\nAnswer with the choice and nothing else."
        case ScoreBody():
            values = tuple(level.label for level in body.levels)
            options = [(level.label, level.description) for level in body.levels]
            task = (
                f"Choose a level. From the lowest to the highest:\n{_listed(options)}\n"
                "Answer with the level and nothing else."
            )
    _check(options, where)
    prompt = _asked(messages, f"{text_of(body.instructions)}\n\n{task}")
    return Question(body.type, body.name, prompt, tuple(name for name, _ in options), values)


def _names(values: Sequence[str | bool]) -> list[str]:
    """Return what the model calls the values: "true" and true must differ."""
    plain = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return plain if len(set(plain)) == len(plain) else [json.dumps(value) for value in values]


def _listed(options: Sequence[tuple[str, str | None]]) -> str:
    return "\n".join(f"- {name}: {text}" if text else f"- {name}" for name, text in options)


def _check(options: Sequence[tuple[str, str | None]], where: str) -> None:
    names = [name for name, _ in options]
    if not all(names) or len(set(names)) < len(names):
        raise InvalidParameter(
            f"The choices or levels of `{where}` must differ and must not be empty.", param=where
        )


def _asked(messages: Sequence[Message], question: str) -> Conversation:
    """Put the question after the input: into the last message where that is a user's, as many
    templates want turns to alternate.
    """
    last = messages[-1]
    if last.role == "user":
        joined = Message("user", f"{last.content}\n\n{question}")
        return Conversation((*messages[:-1], joined))
    return Conversation((*messages, Message("user", question)))
