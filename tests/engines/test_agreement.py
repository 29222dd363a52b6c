"""Engines compared with golden answers: the same tokens, tolerated ones, wrong ones."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from mooring.engines.agreement import Agreement, Parting, compare, tolerance_of
from mooring.engines.contract import Capabilities, Emit, Load
from mooring.errors import RequestFailed
from mooring.generation import (
    Failed,
    Finished,
    GenerationRequest,
    Golden,
    GoldenAnswer,
    GoldenStep,
    Text,
    Token,
)

CAPABILITIES = Capabilities("scripted", "1", "cpu", "float32", 64, 100, 4)
END = 2


def step(*ids: int, gap: float = 0.05, spread: float = 1.0) -> GoldenStep:
    """Make a step whose best tokens are `ids`, each `gap` below the one before."""
    return GoldenStep(tuple((id, -1.0 - place * gap) for place, id in enumerate(ids)), spread)


GOLDEN = Golden(
    "float32",
    "5",
    (
        GoldenAnswer((5, 6), tuple(step(token, token + 1) for token in (10, 20, 30, 40))),
        GoldenAnswer((7,), tuple(step(token, token + 1) for token in (50, 60, 70, 80))),
    ),
)


class Scripted:
    """An engine that says golden tokens, but for what `changed` says of (prompt, position)."""

    def __init__(self, changed: dict[tuple[int, int], int | None] | None = None) -> None:
        self.changed = changed or {}
        self.requests: list[GenerationRequest] = []

    def start(self) -> Capabilities:
        return CAPABILITIES

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        self.requests.append(request)
        number = next(n for n, a in enumerate(GOLDEN.answers) if a.prompt_ids == request.prompt_ids)
        ids = GOLDEN.answers[number].token_ids
        assert request.generated_ids == ids[: len(request.generated_ids)]
        for position in range(len(request.generated_ids), request.sampling.max_tokens or 0):
            token = self.changed.get((number, position), ids[position])
            if token is None:
                emit(Finished("stop"))
                return
            emit(Token(token))
        emit(Finished("length"))

    def cancel(self, request_id: str) -> None: ...

    def load(self) -> Load:
        return Load(0, 0, 0)

    def close(self) -> None: ...


def found(
    changed: dict[tuple[int, int], int | None], precision: str = "bfloat16"
) -> tuple[Agreement, Scripted]:
    engine = Scripted(changed)
    return compare(engine, replace(CAPABILITIES, precision=precision), GOLDEN), engine


def test_equal_tokens_agree_in_one_round() -> None:
    agreement, engine = found({}, "float32")
    assert agreement == Agreement(8, 0.002, ())
    assert agreement.agrees
    assert [r.generated_ids for r in engine.requests] == [(), ()]
    assert all(r.sampling.greedy and r.sampling.ignore_eos for r in engine.requests)


def test_a_near_token_is_tolerated_when_rounded_and_the_rest_is_compared() -> None:
    agreement, engine = found({(0, 1): 21, (1, 3): 81})
    assert agreement.agrees
    assert agreement.partings == (
        Parting(0, 1, 20, 21, pytest.approx(0.05), True),  # type: ignore[arg-type]
        Parting(1, 3, 80, 81, pytest.approx(0.05), True),  # type: ignore[arg-type]
    )
    assert [r.generated_ids for r in engine.requests] == [(), (), (10, 20)]


def test_a_near_token_is_wrong_in_full_precision() -> None:
    agreement, _ = found({(0, 1): 21}, "float32")
    assert not agreement.agrees
    assert agreement.first_wrong is not None
    assert (agreement.first_wrong.position, agreement.first_wrong.given) == (1, 21)


def test_a_later_wrong_token_is_found_behind_a_tolerated_one() -> None:
    agreement, _ = found({(0, 0): 11, (0, 2): 99})
    assert not agreement.agrees
    assert agreement.first_wrong == Parting(0, 2, 30, 99, None, False)


def test_an_engine_that_ends_early_is_wrong() -> None:
    agreement, _ = found({(1, 2): None})
    assert agreement.first_wrong == Parting(1, 2, 70, None, None, False)


def test_tolerated_tokens_everywhere_are_too_many() -> None:
    everywhere: dict[tuple[int, int], int | None] = {
        (number, at): token + 1
        for number, answer in enumerate(GOLDEN.answers)
        for at, token in enumerate(answer.token_ids)
    }
    agreement, _ = found(everywhere, "int4")
    assert all(parting.tolerated for parting in agreement.partings)
    assert not agreement.agrees
    assert agreement.first_wrong == agreement.partings[0]


def test_the_gap_is_measured_in_spreads() -> None:
    assert step(1, 2, gap=0.4, spread=2.0).gap(2) == pytest.approx(0.2)
    assert step(1, 2).gap(3) is None


def test_the_wider_of_both_precisions_counts() -> None:
    assert tolerance_of("float32", "float32") < tolerance_of("float32", "bfloat16")
    assert tolerance_of("int4", "bfloat16") == tolerance_of("int4", "float32")
    assert tolerance_of("something", "float32") == tolerance_of("bfloat16", "float32")


def test_leaves_out_what_does_not_fit_the_context() -> None:
    agreement = compare(Scripted(), replace(CAPABILITIES, context_length=5), GOLDEN)
    assert agreement.tokens == 4


def test_compares_up_to_the_end_token_where_an_engine_stops_there() -> None:
    cannot = replace(CAPABILITIES, unsupported=("ignore_eos",))
    engine = Scripted({(0, 2): None, (1, 1): None})
    assert compare(engine, cannot, GOLDEN, {30, 60}).agrees
    assert not engine.requests[0].sampling.ignore_eos


def test_raises_what_the_engine_fails_with(monkeypatch: pytest.MonkeyPatch) -> None:
    submit: Callable[..., None] = lambda self, request, emit: emit(Failed(RequestFailed("No.")))  # noqa: E731
    monkeypatch.setattr(Scripted, "submit", submit)
    with pytest.raises(RequestFailed, match="No"):
        compare(Scripted(), CAPABILITIES, GOLDEN)


def test_text_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(self: Scripted, request: GenerationRequest, emit: Emit) -> None:
        emit(Text("Ahoy"))
        emit(Finished("length"))

    monkeypatch.setattr(Scripted, "submit", submit)
    assert compare(Scripted(), CAPABILITIES, GOLDEN).tokens == 0
