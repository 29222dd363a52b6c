from mooring.generation import TextToken
from mooring.service.best import best_of
from mooring.service.stream import Completion


def said(text: str, *logprobs: float | None) -> Completion:
    tokens = tuple(TextToken(0, b"x", 0, logprob) for logprob in logprobs)
    return Completion(text, "stop", len(tokens), logprobs=tokens)


def test_the_likeliest_per_token_come_first() -> None:
    rivals = [said("short", -2.0), said("long", -1.0, -1.5, -1.0), said("empty"), said("best", -1)]
    found = best_of(rivals, 2, skipped=0, told=False)
    assert [(one.text, one.logprobs) for one in found] == [("best", ()), ("long", ())]
    assert best_of(rivals, 4, skipped=0, told=True)[-1] == rivals[2]
    assert best_of(rivals, 1, skipped=0, told=True) == [rivals[3]]


def test_a_repeated_prompt_does_not_count() -> None:
    rivals = [said("a", None, -9.0, -1.0), said("b", None, -9.0, -0.5, -0.6)]
    assert [one.text for one in best_of(rivals, 2, skipped=2, told=False)] == ["b", "a"]
