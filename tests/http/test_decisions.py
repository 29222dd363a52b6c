"""Typed questions, asked by OpenAI's own client, answered with probabilities."""

from typing import Any

import openai
import pytest

from tests.http.serving import Running

PREDICATE: Any = {"type": "predicate", "name": "urgent", "instructions": "It is urgent."}
CHOICE: Any = {
    "type": "choice",
    "instructions": [{"type": "input_text", "text": "Which team?"}],
    "choices": [{"value": "sales", "description": "sells"}, {"value": "support"}],
}
SCORE: Any = {
    "type": "score",
    "instructions": "How angry?",
    "levels": [{"label": "calm"}, {"label": "cross"}, {"label": "furious"}],
}

INPUT: Any = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [{"type": "input_json", "data": {"a": [1]}}]},
    {"role": "assistant", "content": [{"type": "output_text", "text": "Yes?"}]},
]


def test_every_kind_of_question_is_answered_in_order(echo: Running) -> None:
    questions = [PREDICATE, CHOICE, SCORE]
    decision = echo.openai.decisions.create(model="demo", input="Help!", questions=questions)
    predicate, choice, score = decision.answers
    assert predicate.type == "predicate"
    assert (predicate.name, 0 < predicate.probability < 1) == ("urgent", True)
    assert choice.type == "choice"
    assert [one.value for one in choice.probabilities] == ["sales", "support"]
    assert sum(one.probability for one in choice.probabilities) == pytest.approx(1)
    best = max(choice.probabilities, key=lambda one: one.probability)
    assert (choice.choice, choice.confidence) == (best.value, best.probability)
    assert score.type == "score"
    assert [(one.value, one.label) for one in score.probabilities] == [
        (0, "calm"), (1, "cross"), (2, "furious"),
    ]  # fmt: skip
    expected = sum(one.value * one.probability for one in score.probabilities)
    assert score.score == pytest.approx(expected)
    assert decision.usage.output_tokens == 0
    assert decision.usage.total_tokens == decision.usage.input_tokens > 100
    again = echo.openai.decisions.create(model="demo", input="Help!", questions=questions)
    assert again.answers == decision.answers
    assert echo.service.activity.sequences == 0


def test_true_and_its_text_are_two_values(echo: Running) -> None:
    question = CHOICE | {"choices": [{"value": "true"}, {"value": True}, {"value": False}]}
    decision = echo.openai.decisions.create(
        model="demo",
        input=INPUT,
        questions=[question],
    )
    (choice,) = decision.answers
    assert choice.type == "choice"
    assert [one.value for one in choice.probabilities] == ["true", True, False]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "other"}, "model"),
        ({"questions": []}, "questions"),
        ({"questions": [PREDICATE] * 401}, "questions"),
        ({"questions": [CHOICE | {"choices": [{"value": "a"}]}]}, "questions[0].choices"),
        ({"questions": [CHOICE | {"choices": [{"value": "a"}] * 2}]}, "questions[0]"),
        ({"questions": [CHOICE | {"choices": [{"value": ""}, {"value": "a"}]}]}, "questions[0]"),
        ({"questions": [PREDICATE | {"type": "guess"}]}, "questions[0]"),
        ({"questions": [SCORE | {"levels": [{"label": str(n)} for n in range(255)]}] * 9},
         "questions"),
        ({"input": []}, "input"),
        ({"input": [{"role": "tool", "content": "a"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
         "input"),
        ({"input": "x" * 5000}, None),
        ({"temperature": 1}, "temperature"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(echo: Running, fields: dict[str, Any], param: str | None) -> None:
    body = {"model": "demo", "input": "Help!", "questions": [PREDICATE], **fields}
    response = echo.post("/v1/decisions", body)
    assert response.status_code == (404 if param == "model" else 400)
    assert (response.json()["error"]["param"] or "").startswith(param or "")
    assert echo.service.activity.sequences == 0


def test_a_prompt_format_without_messages_says_so(echo: Running) -> None:
    with pytest.raises(openai.NotFoundError):
        echo.openai.decisions.create(model="none", input="a", questions=[PREDICATE])
