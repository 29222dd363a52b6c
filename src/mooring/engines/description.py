"""Which engine to make and with what, as plain data: for this process or for a child."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from mooring.engines.contract import Engine
from mooring.errors import MissingDependency
from mooring.settings import EngineSettings


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """Everything an engine is made from.

    `context_length` is the model's own, in tokens; `settings` may only shorten it. The last two
    fields are for the echo engine: how long its steps take, and at which step it breaks.
    """

    snapshot: str
    context_length: int
    vocabulary_size: int
    settings: EngineSettings = field(default_factory=EngineSettings)
    dtype: str = "auto"
    trust_remote_code: bool = False
    end_token_ids: tuple[int, ...] = ()
    seconds_per_token: float = 0.0
    breaks_at_step: int | None = None


def make_engine(description: EngineDescription) -> Engine:
    """Return the engine, not yet started; raise `MissingDependency`."""
    if description.settings.name == "echo":
        return _echo(description)
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise MissingDependency(
            "The transformers engine needs torch and transformers. "
            "Install them with: pip install 'mooring[transformers]'"
        )
    from mooring.engines.transformers.engine import TransformersEngine

    return TransformersEngine(
        Path(description.snapshot),
        description.settings,
        dtype=description.settings.dtype or description.dtype,
        trust_remote_code=description.trust_remote_code,
        context_length=description.context_length,
        end_token_ids=description.end_token_ids,
    )


def _echo(description: EngineDescription) -> Engine:
    from mooring.engines.echo import EchoEngine, EchoSettings

    settings = description.settings
    return EchoEngine(
        EchoSettings(
            seconds_per_token=description.seconds_per_token,
            max_running=settings.max_running,
            context_length=min(
                settings.context_length or description.context_length, description.context_length
            ),
            vocabulary_size=description.vocabulary_size,
            breaks_at_step=description.breaks_at_step,
        )
    )
