"""Steps in tensors that keep their shape and place give the same results.

No GPU is needed here: where one would replay recorded kernels, the step itself runs again, on the
same tensors.
"""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mooring.engines.transformers import captured
from mooring.engines.transformers.captured import CapturedStep, Run
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.speculation import Speculation
from mooring.engines.transformers.trial import try_captured
from tests.engines.transformers.rows import Ask, Bench, run_again, tokens_of, watch
from tests.engines.transformers.test_families import FAMILIES

LoadedOf = Callable[[str], LoadedModel]
AloneOf = Callable[[str, Ask], list[int]]


# One makes tensors as long as the cache says that it is; the other has none.
APART = {"remote_code", "mamba"}


class Readings(TorchDispatchMode):
    """Notes what makes the CPU wait for a number from the GPU, which no recording allows."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal"):
            self.found.append(name)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in APART])
def test_right_for_models_with_keys_and_values(loaded_of: LoadedOf, family: str) -> None:
    readings = Readings()

    def watched(run: Run) -> Run:
        def step() -> torch.Tensor:
            with readings:
                return run()

        return step

    assert try_captured(loaded_of(family), watched) is not None
    assert readings.found == []


def test_not_taken_for_a_model_that_needs_to_know_how_full_the_cache_is(
    loaded_of: LoadedOf,
) -> None:
    assert try_captured(loaded_of("remote_code"), run_again) is None


def test_found_wrong_by_trying(monkeypatch: pytest.MonkeyPatch, loaded_of: LoadedOf) -> None:
    monkeypatch.setattr(captured._FixedLayer, "get_seq_length", lambda self: 0)
    assert try_captured(loaded_of("llama"), run_again) is None


def test_not_taken_where_it_cannot_be_recorded(loaded_of: LoadedOf) -> None:
    assert not torch.cuda.is_available()
    assert try_captured(loaded_of("llama")) is None


def test_a_step_is_recorded_once_for_a_size(
    monkeypatch: pytest.MonkeyPatch, loaded_of: LoadedOf, alone_of: AloneOf
) -> None:
    loaded = loaded_of("llama")
    recorded: list[Run] = []

    def note(run: Run) -> Run:
        recorded.append(run)
        return run

    bench = Bench(loaded, 4000, captured=CapturedStep(loaded, note), speculation=Speculation())
    shapes = watch(monkeypatch, loaded.model)
    asks = [Ask(number, 20, True, number, None) for number in (0, 1, 2)]
    answered = bench.run(asks)
    assert [tokens_of(events) for events in answered] == [alone_of("llama", ask) for ask in asks]
    # One row, also one that drafts nothing yet, two, and four places for three.
    assert len(recorded) == 3
    assert {shape[0] for shape in shapes} == {1, 2, 4}


def test_what_nobody_may_see_may_be_no_numbers(loaded_of: LoadedOf, alone_of: AloneOf) -> None:
    loaded = loaded_of("llama")
    bench = Bench(loaded, 4000, captured=try_captured(loaded, run_again))
    long, short = Ask(5, 20, False, 0, None), Ask(1, 20, False, 0, None)
    bench.run([long, long])
    for layer in bench.columns.layers:  # as rows leave them whose scores were no numbers
        with torch.inference_mode():
            layer.keys[:] = layer.values[:] = torch.nan
    bench.steps = 0
    answered = bench.run([short, short])
    assert [tokens_of(events) for events in answered] == [alone_of("llama", short)] * 2


def test_what_can_be_replayed_no_more_is_run(
    monkeypatch: pytest.MonkeyPatch, loaded_of: LoadedOf, alone_of: AloneOf
) -> None:
    loaded = loaded_of("llama")
    recorded: list[Run] = []

    def once(run: Run) -> Run:
        recorded.append(run)
        if len(recorded) > 1:
            raise torch.OutOfMemoryError("no memory for one more recording")
        return run

    bench = Bench(loaded, 4000, captured=CapturedStep(loaded, once))
    asks = [Ask(1, 20, True, 0, None), Ask(2, 20, False, 5, None), Ask(3, 20, True, 9, None)]
    answered = bench.run(asks)
    assert [tokens_of(events) for events in answered] == [alone_of("llama", ask) for ask in asks]
    assert len(recorded) == 2


def test_buffers_are_free_when_the_columns_give_them_up(loaded_of: LoadedOf) -> None:
    loaded = loaded_of("llama")

    def replay_nothing(run: Run) -> Run:
        output = run()
        return lambda: output

    bench = Bench(loaded, 4000, captured=CapturedStep(loaded, replay_nothing))
    sequence, _ = bench.send(Ask(1, 9, False, 0, None))
    bench.step([sequence])
    bench.step([])
    buffer = weakref.ref(bench.columns.layers[0].keys)
    bench.columns.clear()
    gc.collect()
    assert buffer() is None
