"""Engines under test, and snapshots that are written once per run."""

from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from mooring.engines.contract import Engine
from mooring.engines.description import EngineDescription
from mooring.engines.echo import EchoEngine, EchoSettings
from mooring.engines.openvino import ConvertedModel, OpenVINOEngine
from mooring.engines.process import ProcessEngine
from mooring.engines.transformers import TransformersEngine
from mooring.settings import EngineSettings
from tests import models
from tests.engines.upstream.servers import stand_in_engine

DATA = Path(__file__).parent.parent / "data"

SnapshotOf = Callable[[str], Path]
EngineOf = Callable[..., Engine]
ConvertedOf = Callable[..., ConvertedModel]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def snapshot_of(tmp_path_factory: pytest.TempPathFactory) -> SnapshotOf:
    """Return the snapshot of a family of `tests.models`, such as `llama`."""
    folder = tmp_path_factory.mktemp("snapshots")

    def write(family: str) -> Path:
        path = folder / family
        if not path.exists():
            getattr(models, f"tiny_{family}")(path)
        return path

    return write


@pytest.fixture(scope="session")
def converted_of(tmp_path_factory: pytest.TempPathFactory) -> ConvertedOf:
    """Return a family of `tests.models` in OpenVINO's format: `llama` or `mpt`."""
    folder = tmp_path_factory.mktemp("converted")

    def unpack(family: str, *, paged: bool = True) -> ConvertedModel:
        path = folder / family
        if not path.exists():
            with ZipFile(DATA / f"{family}_openvino.zip") as archive:
                archive.extractall(path)
        return ConvertedModel(
            path,
            paged,
            vocabulary_size=models.VOCABULARY_SIZE,
            context_length=models.CONTEXT_LENGTH,
            cache_values_per_token=128,
            end_token_ids=(models.END,),
        )

    return unpack


@pytest.fixture
def transformers_engine(snapshot_of: SnapshotOf) -> Iterator[EngineOf]:
    """Start a transformers engine of a family in float32; close it at the end."""
    started: list[Engine] = []

    def start(
        family: str = "llama",
        *,
        max_running: int = 32,
        end_token_ids: tuple[int, ...] = (models.END,),
        prompt_lookup: bool = True,
    ) -> Engine:
        engine = TransformersEngine(
            snapshot_of(family),
            EngineSettings(
                device="cpu",
                dtype="float32",
                max_running=max_running,
                prompt_lookup=prompt_lookup,
            ),
            trust_remote_code=family == "remote_code",
            context_length=models.CONTEXT_LENGTH,
            end_token_ids=end_token_ids,
        )
        started.append(engine)
        engine.start()
        return engine

    yield start
    for engine in started:
        engine.close()


@pytest.fixture(params=["echo", "transformers", "openvino", "process", "upstream"])
def engine_of(
    request: pytest.FixtureRequest, snapshot_of: SnapshotOf, converted_of: ConvertedOf
) -> Iterator[EngineOf]:
    """Make an engine of each kind, not yet started; close it at the end."""
    made: list[Engine] = []

    def make(*, max_running: int = 32) -> Engine:
        engine: Engine
        if request.param == "process":
            engine = ProcessEngine(
                EngineDescription(
                    snapshot="",
                    context_length=models.CONTEXT_LENGTH,
                    vocabulary_size=models.VOCABULARY_SIZE,
                    settings=EngineSettings("echo", max_running=max_running),
                    seconds_per_token=0.001,
                )
            )
        elif request.param == "openvino":
            engine = OpenVINOEngine(
                converted_of("llama"),
                EngineSettings("openvino", dtype="float32", max_running=max_running),
            )
        elif request.param == "upstream":
            engine = stand_in_engine("vllm", max_running=max_running)
        elif request.param == "echo":
            engine = EchoEngine(
                EchoSettings(
                    seconds_per_token=0.001,
                    max_running=max_running,
                    context_length=models.CONTEXT_LENGTH,
                    vocabulary_size=models.VOCABULARY_SIZE,
                )
            )
        else:
            engine = TransformersEngine(
                snapshot_of("llama"),
                EngineSettings(device="cpu", max_running=max_running),
                context_length=models.CONTEXT_LENGTH,
                end_token_ids=(models.END,),
            )
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()
