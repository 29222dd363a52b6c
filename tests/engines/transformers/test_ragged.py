"""Prompts are read in the same pass as rows, where the model allows, and with the same results."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from mooring.engines.transformers import ragged
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.trial import try_ragged
from mooring.generation import Failed, Finished, Started
from tests.engines.transformers.rows import Ask, Bench, Fixed, tokens_of, watch
from tests.engines.transformers.test_families import FAMILIES

# Attention of their own, biases by distance in the mask, or a state instead of a cache.
APART = {"gemma2", "falcon", "falcon_alibi", "mpt", "bloom", "mamba", "remote_code"}
LoadedOf = Callable[[str], LoadedModel]
AloneOf = Callable[[str, Ask], list[int]]


@pytest.fixture(scope="module")
def llama(loaded_of: LoadedOf) -> Iterator[LoadedModel]:
    loaded = loaded_of("llama")
    kind = loaded.model.config._attn_implementation
    yield loaded
    assert loaded.model.config._attn_implementation == kind == "sdpa"


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in APART])
def test_right_for_models_that_let_attention_be_replaced(loaded_of: LoadedOf, family: str) -> None:
    assert try_ragged(loaded_of(family)) is not None


@pytest.mark.parametrize("family", sorted(APART - {"mamba"}))
def test_not_taken_for_others(loaded_of: LoadedOf, family: str) -> None:
    assert try_ragged(loaded_of(family)) is None


@pytest.mark.parametrize(
    ("part", "name", "wrong"),
    [
        (ragged._Prompt, "mask", lambda self, window: None),
        (ragged._Rows, "mask", lambda self, window: None),
        (ragged._Rows, "give", lambda self, output: output.transpose(0, 1) * 0.5),
    ],
)
def test_found_wrong_by_trying(
    monkeypatch: pytest.MonkeyPatch, llama: LoadedModel, part: type, name: str, wrong: Any
) -> None:
    monkeypatch.setattr(part, name, wrong)
    assert try_ragged(llama) is None


def test_another_window_than_the_configuration_says_is_refused(
    monkeypatch: pytest.MonkeyPatch, loaded_of: LoadedOf
) -> None:
    loaded = loaded_of("mistral")
    monkeypatch.setattr(ragged, "_windows_of", lambda config: [None] * config.num_hidden_layers)
    assert try_ragged(loaded) is None


def test_prompts_share_passes_with_rows(
    monkeypatch: pytest.MonkeyPatch, llama: LoadedModel, alone_of: AloneOf
) -> None:
    asks = [
        Ask(1, 6, True, 0, None),
        Ask(5, 2, False, 2, None),
        Ask(2, 3, True, 2, None),
        Ask(3, 3, False, 2, None),
    ]
    bench = Bench(llama, most_tokens=1000, ragged=True, pace=Fixed(33))
    shapes = watch(monkeypatch, llama.model)
    answered = bench.run(asks)
    assert [tokens_of(events) for events in answered] == [alone_of("llama", ask) for ask in asks]
    # 3; 1; a row beside 8 and 17 (8 left are not worth 40); 3 rows beside 33, 3 or fewer beside 7.
    assert shapes[:5] == [(1, 3), (1, 1), (1, 1 + 8 + 17), (1, 3 + 33), (1, 3 + 7)]


def test_a_prefix_that_is_being_read_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, llama: LoadedModel
) -> None:
    bench = Bench(llama, 2000, keeps=True, ragged=True)
    shapes = watch(monkeypatch, llama.model)
    asks = [
        Ask(3, 1, False, 0, None, shared=45),
        Ask(2, 1, False, 0, None, shared=45),
        Ask(1, 1, False, 0, None, shared=45),
        Ask(5, 1, False, 0, None),
    ]
    ends = [events[-1] for events in bench.run(asks)]
    assert ends == [Finished("length", cached) for cached in (32, 32, 0, 0)]
    assert shapes == [(1, 40 + 45 + 3), (1, 45 + 8 - 32 + 45 + 17 - 32)]


def test_a_pass_that_fails_is_made_apart_and_fails_only_who_is_at_fault(
    monkeypatch: pytest.MonkeyPatch, llama: LoadedModel, alone_of: AloneOf
) -> None:
    asks = [Ask(3, 9, False, 0, None), Ask(2, 9, True, 3, None), Ask(5, 9, True, 3, None)]
    bench = Bench(llama, most_tokens=1000, ragged=True)
    layer = llama.model.model.layers[-1]
    forward = layer.forward

    def fail_on_forty(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if hidden.shape[1] in (40, 1 + 8 + 40):
            raise RuntimeError("a shape that this layer does not like")
        return forward(hidden, *args, **kwargs)

    monkeypatch.setattr(layer, "forward", fail_on_forty)
    *others, failed = bench.run(asks)
    assert [tokens_of(events) for events in others] == [alone_of("llama", ask) for ask in asks[:2]]
    assert [type(event) for event in failed] == [Started, Failed]
