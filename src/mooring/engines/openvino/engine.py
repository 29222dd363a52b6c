"""The openvino engine: the contract around a runner, without importing the library itself."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mooring.engines.contract import Capabilities
from mooring.engines.openvino.alone import Alone
from mooring.engines.openvino.generation import UNSUPPORTED
from mooring.engines.openvino.memory import BLOCK_TOKENS, plan_cache_tokens
from mooring.engines.openvino.paged import Paged
from mooring.engines.running import Runner, RunningEngine
from mooring.engines.sequence import Sequence
from mooring.errors import CorruptArtifact, InvalidParameter
from mooring.generation import Event, Failed, GenerationRequest, SamplingParams
from mooring.settings import EngineSettings

logger = logging.getLogger(__name__)

_TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_NAMES = {"fp16": "float16", "int8": "int8", "int4": "int4"}
# Inputs of rounded weights are rounded too, in groups of so many: the library's own 32 make every
# step longer by a fifth. Whether tokens stay near the golden ones is checked with this value.
_INPUT_GROUP = 128
# What else is computed with rounded weights is computed in float32 unless told otherwise: also on
# CPUs with bfloat16 that is faster, alone by a fifth and eight at once by a third.
_ROUNDED = ("int8", "int4")
_WARM_UP_TOKENS = 24


@dataclass(frozen=True, slots=True)
class ConvertedModel:
    """A model in OpenVINO's format: its folder, and whether paged attention gets it right.

    `weights` is the format that its weights are stored in: `float32`, `fp16`, `int8` or `int4`.
    `vocabulary_size` and `context_length` are in tokens; `cache_values_per_token` counts the keys
    and values that a token adds over all layers, None where unknown.
    """

    folder: Path
    paged: bool
    vocabulary_size: int
    context_length: int
    cache_values_per_token: int | None
    end_token_ids: tuple[int, ...]
    weights: str = "float32"


class OpenVINOEngine(RunningEngine):
    """Runs a converted model on this machine's CPU."""

    def __init__(self, model: ConvertedModel, settings: EngineSettings) -> None:
        super().__init__()
        self._model = model
        self._settings = settings

    def _open(self) -> Capabilities:
        _check_device(self._settings)
        with _errors_named():
            precision = _precision(self._dtype, self._model.weights)
            context = min(
                self._model.context_length,
                self._settings.context_length or self._model.context_length,
            )
            if self._model.paged:
                cache_tokens = self._cache_tokens(context)
                context = min(context, cache_tokens - BLOCK_TOKENS)
                self._runner = self._paged(cache_tokens)
            else:
                _refuse_bound(self._settings)
                logger.warning("No continuous batching with this model: requests run in turn.")
                self._runner = Alone(
                    self._model.folder,
                    self._properties(),
                    end_token_ids=self._model.end_token_ids,
                )
            _warm_up(self._runner, min(_WARM_UP_TOKENS, context - 2))
        return Capabilities(
            name="openvino",
            version=version("openvino-genai"),
            device="cpu",
            precision=precision,
            context_length=context,
            vocabulary_size=self._model.vocabulary_size,
            max_running=self._settings.max_running if self._model.paged else 1,
            unsupported=UNSUPPORTED,
            top_logprobs=0 if self._model.paged else None,
        )

    def _paged(self, cache_tokens: int) -> Paged:
        logger.info("Continuous batching: the cache holds at most %d tokens.", cache_tokens)
        return Paged(
            self._model.folder,
            self._properties(),
            cache_tokens=cache_tokens,
            max_running=self._settings.max_running,
            end_token_ids=self._model.end_token_ids,
        )

    def _cache_tokens(self, context_length: int) -> int:
        exact = self._settings.dtype == "float32"
        return plan_cache_tokens(
            self._settings.cache_bytes,
            self._model.cache_values_per_token,
            "float32" if exact else "uint8",
            most_useful=self._settings.max_running * (context_length + BLOCK_TOKENS),
        )

    def _properties(self) -> dict[str, Any]:
        """Return what the model is compiled with: the library's choice, or the dtype asked for."""
        wanted = _TYPES.get(self._dtype)
        properties: dict[str, Any] = {}
        if wanted is not None:
            properties["INFERENCE_PRECISION_HINT"] = wanted
        if self._model.weights in _ROUNDED:
            properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = _INPUT_GROUP
        if self._settings.dtype == "float32":
            properties["KV_CACHE_PRECISION"] = wanted
        return properties

    @property
    def _dtype(self) -> str:
        """What is computed in; "auto" is the library's choice."""
        asked = self._settings.dtype or "auto"
        return "float32" if asked == "auto" and self._model.weights in _ROUNDED else asked


def _check_device(settings: EngineSettings) -> None:
    if settings.device not in ("auto", "cpu"):
        raise InvalidParameter(
            f"The openvino engine runs on the CPU. Given: {settings.device}. "
            "Leave the device out, or choose the transformers engine.",
            param="device",
        )


def _refuse_bound(settings: EngineSettings) -> None:
    if settings.cache_bytes is not None:
        raise InvalidParameter(
            "`cache_bytes` can only bound continuous batching, and this model runs one request at "
            f"a time. Given: {settings.cache_bytes}. Leave it out.",
            param="cache_bytes",
        )


def _precision(dtype: str, weights: str) -> str:
    computed = dtype
    if computed == "auto":
        from openvino import Core

        hint = Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
        computed = next((ours for ours, theirs in _TYPES.items() if theirs == hint), hint)
    return computed if weights == "float32" else f"{_NAMES[weights]} weights in {computed}"


def _warm_up(runner: Runner, tokens: int) -> None:
    """Generate twice, so that what the library makes on first use is made before any request."""

    def drop(event: Event) -> None:
        if isinstance(event, Failed):
            raise event.error

    sampling = SamplingParams(max_tokens=2, temperature=0.0, ignore_eos=True)
    request = GenerationRequest("warm-up", (0,) * max(1, tokens), sampling)
    sequence = Sequence(request, drop, 2)
    joining = [sequence]
    while not sequence.ended:
        runner.step(joining)
        joining = []
    runner.step([])


@contextmanager
def _errors_named() -> Iterator[None]:
    """Say in one line what the library says in many."""
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CorruptArtifact(
            "OpenVINO cannot load the converted model: "
            f"{(lines or ['no reason given'])[-1][:200]}. Package the model again."
        ) from error
