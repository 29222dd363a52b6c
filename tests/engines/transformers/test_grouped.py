"""Groups: what arrived together runs together, with any cache that a model may have."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from mooring.engines.sequence import Sequence
from mooring.engines.transformers.grouped import Grouped
from mooring.engines.transformers.loader import LoadedModel, load_model
from mooring.generation import Event, Failed, GenerationRequest, SamplingParams, Started, Token
from mooring.settings import EngineSettings
from tests.engines.conftest import SnapshotOf

Shapes = list[tuple[int, int]]
POISON = 250


@pytest.fixture
def llama(snapshot_of: SnapshotOf) -> LoadedModel:
    settings = EngineSettings(device="cpu", dtype="float32")
    return load_model(snapshot_of("llama"), settings, dtype="auto", trust_remote_code=False)


def sequence(prompt: list[int], max_tokens: int) -> tuple[Sequence, list[Event]]:
    events: list[Event] = []
    params = SamplingParams(temperature=0.0, ignore_eos=True)
    request = GenerationRequest("any", tuple(prompt), params)
    return Sequence(request, events.append, max_tokens), events


@torch.inference_mode()
def run(grouped: Grouped, *joining: list[Sequence]) -> None:
    for sequences in joining:
        grouped.step(sequences)
    while any(not one.ended for sequences in joining for one in sequences):
        grouped.step([])


def spy(monkeypatch: pytest.MonkeyPatch, model: Any) -> Shapes:
    shapes: Shapes = []
    forward: Callable[..., Any] = model.forward

    def watch(**kwargs: Any) -> Any:
        shapes.append(tuple(kwargs["input_ids"].shape))
        if (kwargs["input_ids"] == POISON).any():
            raise RuntimeError("poisoned")
        return forward(**kwargs)

    watch.__wrapped__ = forward  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "forward", watch)
    return shapes


@pytest.mark.parametrize(
    ("can_pad", "expected"),
    [
        (True, [(3, 4), (2, 1), (2, 1), (1, 1), (1, 1)]),
        (False, [(2, 4), (1, 3), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1), (1, 1)]),
    ],
)
def test_groups_by_arrival_and_by_length_where_padding_is_wrong(
    monkeypatch: pytest.MonkeyPatch, llama: LoadedModel, can_pad: bool, expected: Shapes
) -> None:
    shapes = spy(monkeypatch, llama.model)
    asked = [([5] * 4, 3), ([7] * 3, 5 if can_pad else 3), ([6] * 4, 1 if can_pad else 5)]
    made = [sequence(*one) for one in asked]
    run(Grouped(llama, frozenset(), can_pad=can_pad), [one for one, _ in made])
    assert shapes == expected
    for (prompt, limit), (_, events) in zip(asked, made, strict=True):
        alone = transformers.GenerationMixin.generate(
            llama.model, torch.tensor([prompt]), max_new_tokens=limit, min_new_tokens=limit,
            do_sample=False, eos_token_id=None,
        )  # fmt: skip
        tokens = [event.id for event in events if isinstance(event, Token)]
        assert tokens == alone[0, len(prompt) :].tolist()


def test_a_failing_step_fails_its_group_alone(
    monkeypatch: pytest.MonkeyPatch, llama: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    spy(monkeypatch, llama.model)
    old, poisoned, mate = sequence([5, 6], 4), sequence([5, POISON], 4), sequence([9, 8], 4)
    run(Grouped(llama, frozenset(), can_pad=True), [old[0]], [poisoned[0], mate[0]])
    assert sum(isinstance(event, Token) for event in old[1]) == 4
    for _, events in (poisoned, mate):
        assert [type(event) for event in events] == [Started, Failed]
    assert "A model step failed; its 2 requests fail." in caplog.text
