"""What goes wrong for one request stays there: the child lives, the others get their tokens."""

from dataclasses import replace
from typing import Any

import pytest

from mooring.errors import OutOfMemory, RequestFailed
from mooring.generation import Failed, Finished
from tests.engines.driving import Answer, ask
from tests.faults.conftest import Sufferer
from tests.faults.reef import Harm, arm

ARMED = 250
BYSTANDERS: list[tuple[list[int], dict[str, Any]]] = [
    ([5, 6, 7, 80], {"max_tokens": 60}),
    ([9, 10], {"max_tokens": 60, "temperature": 1.2, "seed": 3}),
]
FAILURES = [
    ("raise", RequestFailed, "The model failed while generating this answer."),
    ("memory", OutOfMemory, "There was no memory to generate this answer."),
    ("nan", RequestFailed, "No token is possible"),
    ("never", RequestFailed, "No token is possible"),
]


def bystanders(sufferer: Sufferer, on_token: Any = None) -> list[Answer]:
    acts = (on_token, None)
    return [
        ask(sufferer.engine, prompt, **sampling, ignore_eos=True, on_token=act)
        for (prompt, sampling), act in zip(BYSTANDERS, acts, strict=True)
    ]


def undisturbed(sufferer: Sufferer) -> list[list[int]]:
    return [answer.wait().tokens for answer in bystanders(sufferer)]


@pytest.mark.parametrize("place", ["prompt", "answer"])
@pytest.mark.parametrize(("harm", "error", "said"), FAILURES)
def test_only_the_harmed_request_fails(
    sufferer: Sufferer, harm: Harm, error: type[Exception], said: str, place: str
) -> None:
    expected = undisturbed(sufferer)
    arm(sufferer.snapshot, harm, ARMED)
    harmed: list[Answer] = []

    def send_harmed(answer: Answer) -> None:
        if len(answer.tokens) == 5 and place == "prompt":
            harmed.append(ask(sufferer.engine, [5, ARMED], max_tokens=9))
        elif len(answer.tokens) == 5:
            forced = {ARMED: 100}
            harmed.append(ask(sufferer.engine, [5, 8], max_tokens=9, logit_bias=forced))

    others = bystanders(sufferer, send_harmed)
    assert [answer.end for answer in others] == [Finished("length")] * 2
    assert [answer.tokens for answer in others] == expected
    (answer,) = harmed
    assert isinstance(answer.end, Failed)
    assert type(answer.end.error) is error
    assert answer.end.error.message.startswith(said)
    assert "secret" not in answer.end.error.message
    assert answer.tokens == ([] if place == "prompt" else [ARMED])


@pytest.mark.parametrize("once", [True, False])
def test_a_pass_that_raises_at_the_tenth_token(sufferer: Sufferer, once: bool) -> None:
    expected = undisturbed(sufferer)
    tenth = expected[0][9]
    assert tenth not in expected[0][:9] + expected[1] + BYSTANDERS[1][0]
    arm(sufferer.snapshot, "raise", tenth, once=once)
    first, second = bystanders(sufferer)
    waiting = [ask(sufferer.engine, [5, 8], max_tokens=3, ignore_eos=True) for _ in range(4)]
    assert (second.end, second.tokens) == (Finished("length"), expected[1])
    assert [answer.end for answer in waiting] == [Finished("length")] * 4
    if once:
        assert (first.end, first.tokens) == (Finished("length"), expected[0])
    else:
        assert isinstance(first.end, Failed)
        assert type(first.end.error) is RequestFailed
        assert first.tokens == expected[0][:10]


def test_a_token_outside_the_vocabulary_fails_its_request(
    sufferer: Sufferer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = sufferer.engine
    wrong, right = (ask(engine, p, max_tokens=12, ignore_eos=True) for p in ([9], [5, 6, 7, 80]))
    highest = max(wrong.wait().tokens)
    expected = right.wait().tokens
    assert max(expected) < highest
    assert engine._capabilities is not None
    smaller = replace(engine._capabilities, vocabulary_size=highest)
    monkeypatch.setattr(engine, "_capabilities", smaller)
    first, second = (ask(engine, p, max_tokens=12, ignore_eos=True) for p in ([9], [5, 6, 7, 80]))
    assert isinstance(first.end, Failed)
    assert type(first.end.error) is RequestFailed
    assert first.tokens == wrong.tokens[: wrong.tokens.index(highest)]
    assert (second.end, second.tokens) == (Finished("length"), expected)
