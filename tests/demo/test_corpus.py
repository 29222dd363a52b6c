"""The corpus keeps its promises: enough pairs, unique, bilingual, bounded, no figures of speed."""

import re

from mooring.demo import dialogues, questions
from mooring.demo.samples import CLARIFICATION


def test_the_corpus_has_enough_unique_pairs() -> None:
    asked = [question.question for question in questions()]
    assert len(asked) >= 150
    assert len(set(asked)) == len(asked)
    assert len({question.answer for question in questions()}) == len(asked)


def test_the_first_question_of_every_tutorial_is_there() -> None:
    answers = {question.question: question.answer for question in questions()}
    assert answers["What is machine learning?"] == (
        "Machine learning is a way to build programs that learn patterns from data instead of "
        "following rules written by hand, and then use them to make predictions."
    )


def test_chinese_pairs_are_chinese() -> None:
    chinese = [question for question in questions() if question.language == "zh"]
    assert len(chinese) >= 25
    for question in chinese:
        assert re.search(r"[\u4e00-\u9fff]", question.question)
        assert len(re.findall(r"[\u4e00-\u9fff]", question.answer)) >= 15
    assert {question.language for question in questions()} == {"en", "zh"}


def test_answers_are_short_and_whole_sentences() -> None:
    bounds = {"en": (60, 200), "zh": (20, 120)}
    turns = [turn for dialogue in dialogues() for turn in dialogue.turns]
    for question in questions():
        low, high = bounds[question.language]
        assert low <= len(question.answer) <= high, question
    for text in [pair.answer for pair in questions()] + [turn.answer for turn in turns]:
        assert text == text.strip()
        assert re.search(r"[.?。？]$", text) or text.endswith("autolog().")


def test_answers_name_no_performance_figures() -> None:
    figures = re.compile(r"\d+(\.\d+)?\s*(x|times|%|ms|seconds|tokens per|tokens/s|倍|毫秒|秒)\b")
    for question in questions():
        assert not figures.search(question.answer), question


def test_dialogue_follow_ups_need_the_earlier_turn() -> None:
    alone = {question.question: question for question in questions()}
    answers_of_follow_up: dict[str, set[str]] = {}
    for dialogue in dialogues():
        assert len(dialogue.turns) >= 2
        assert alone[dialogue.turns[0].question].answer == dialogue.turns[0].answer
        for turn in dialogue.turns[1:]:
            assert alone[turn.question].topic == CLARIFICATION
            assert alone[turn.question].answer != turn.answer
            answers_of_follow_up.setdefault(turn.question, set()).add(turn.answer)
    assert len(dialogues()) >= 12
    assert all(len(answers) >= 2 for answers in answers_of_follow_up.values())
