"""Models and what they answer alone."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from mooring.engines.transformers.loader import LoadedModel, load_model
from mooring.settings import EngineSettings
from tests.engines.conftest import SnapshotOf
from tests.engines.transformers.rows import LONGEST, Ask, Bench, tokens_of
from tests.engines.transformers.test_families import generate_alone


@pytest.fixture(scope="module")
def loaded_of(snapshot_of: SnapshotOf) -> Callable[[str], LoadedModel]:
    @cache
    def load(family: str) -> LoadedModel:
        engine_settings = EngineSettings(device="cpu", dtype="float32")
        trust = family == "remote_code"
        snapshot: Path = snapshot_of(family)
        return load_model(snapshot, engine_settings, dtype="auto", trust_remote_code=trust)

    return load


@pytest.fixture(scope="module")
def alone_of(loaded_of: Callable[[str], LoadedModel]) -> Callable[[str, Ask], list[int]]:
    """Return the tokens of a request alone: `generate`'s, or our own for a sampled one."""

    @cache
    def longest(family: str, prompt: int, shared: int, sampled: bool) -> list[int]:
        ask = Ask(prompt, LONGEST, sampled, 0, None, shared)
        if not sampled:
            return generate_alone(loaded_of(family).model, (list(ask.prompt_ids), LONGEST))[0]
        [events] = Bench(loaded_of(family), 200).run([ask])
        return tokens_of(events)

    return lambda family, ask: longest(family, ask.prompt, ask.shared, ask.sampled)[: ask.tokens]
