"""Which engine to make and with what, as plain data: for this process or for a child."""

from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from mooring.engines.contract import Engine
from mooring.errors import InvalidInput, MissingDependency
from mooring.settings import Dtype, EngineSettings


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """Everything an engine is made from.

    `context_length` is the model's own, in tokens; `settings` may only shorten it. `converted` is
    the folder of the model in OpenVINO's format, if there is one, with weights in
    `converted_weights`, and `paged` whether paged attention gets it right;
    `cache_values_per_token` is as in `ModelFacts`. The last two fields are for the echo engine: how
    long its steps take, and at which step it breaks.
    """

    snapshot: str
    context_length: int
    vocabulary_size: int
    settings: EngineSettings = field(default_factory=EngineSettings)
    dtype: Dtype = "auto"
    trust_remote_code: bool = False
    end_token_ids: tuple[int, ...] = ()
    converted: str | None = None
    converted_weights: str | None = None
    paged: bool = True
    cache_values_per_token: int | None = None
    seconds_per_token: float = 0.0
    breaks_at_step: int | None = None


def make_engine(description: EngineDescription) -> Engine:
    """Return the engine, not yet started; raise `MissingDependency`, or `InvalidInput` where the
    model has nothing for it.
    """
    match description.settings.name:
        case "echo":
            return _echo(description)
        case "openvino":
            return _openvino(description)
        case "auto" | "transformers":
            return _transformers(description)
        case "upstream":
            raise InvalidInput(
                "The upstream engine needs the model's tokenizer. Serve the packaged model with "
                "`mooring serve --engine upstream`."
            )


def has_openvino() -> bool:
    """Whether the openvino engine is installed."""
    return find_spec("openvino_genai") is not None


def _transformers(description: EngineDescription) -> Engine:
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


def _openvino(description: EngineDescription) -> Engine:
    if description.converted is None:
        raise InvalidInput(
            "The openvino engine needs a model that was converted when it was packaged. Given: one "
            "that was not. Serve it with the transformers engine."
        )
    if not has_openvino():
        raise MissingDependency(
            "The openvino engine needs openvino-genai. "
            "Install it with: pip install 'mooring[openvino]'"
        )
    from mooring.engines.openvino import ConvertedModel, OpenVINOEngine

    model = ConvertedModel(
        folder=Path(description.converted),
        weights=description.converted_weights or "float32",
        paged=description.paged,
        vocabulary_size=description.vocabulary_size,
        context_length=description.context_length,
        cache_values_per_token=description.cache_values_per_token,
        end_token_ids=description.end_token_ids,
    )
    settings = description.settings
    return OpenVINOEngine(model, replace(settings, dtype=settings.dtype or description.dtype))


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
