"""The body of `/v1/decisions` as clients send it: text, JSON, and questions of three kinds."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from mooring.protocol.body import Items, StrictBody

MAX_QUESTIONS, MAX_OPTIONS = 400, 255


class TextPart(StrictBody):
    """A part that is text."""

    type: Literal["input_text", "output_text"]
    text: str
    prompt_cache_breakpoint: Any = None


class JsonPart(StrictBody):
    """A part that is JSON, shown to the model as text."""

    type: Literal["input_json"]
    data: dict[str, Any] | Items[dict[str, Any]]


Part = Annotated[TextPart | JsonPart, Field(discriminator="type")]
Content = str | Items[Part]


class InputMessage(StrictBody):
    """One message of the input."""

    type: Literal["message"] = "message"
    role: Literal["user", "developer", "system", "assistant"]
    content: Content
    phase: Literal["commentary", "final_answer"] | None = None


class _Question(StrictBody):
    name: str | None = None
    instructions: Content


class PredicateBody(_Question):
    """Whether a statement about the input is true."""

    type: Literal["predicate"]


class ChoiceOption(StrictBody):
    """One of the values to choose from."""

    value: str | bool
    description: str | None = None


class ChoiceBody(_Question):
    """One of several values."""

    type: Literal["choice"]
    choices: Items[ChoiceOption] = Field(min_length=2, max_length=MAX_OPTIONS)


class ScoreLevel(StrictBody):
    """One level of a scale."""

    label: str
    description: str | None = None


class ScoreBody(_Question):
    """A level of a scale, from the lowest to the highest."""

    type: Literal["score"]
    levels: Items[ScoreLevel] = Field(min_length=2, max_length=MAX_OPTIONS)


QuestionBody = Annotated[PredicateBody | ChoiceBody | ScoreBody, Field(discriminator="type")]


class DecisionBody(StrictBody):
    """What a client may send."""

    model: str
    input: str | Items[InputMessage]
    questions: Items[QuestionBody] = Field(min_length=1, max_length=MAX_QUESTIONS)
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: str | None = None


def text_of(content: Content) -> str:
    """Return content as the model reads it, its parts on lines of their own."""
    if isinstance(content, str):
        return content
    return "\n".join(
        part.text
        if isinstance(part, TextPart)
        else json.dumps(part.data, ensure_ascii=False, separators=(",", ":"))
        for part in content
    )
