"""Chooses the sampling parameters that a model uses where a request says nothing."""

from pathlib import Path
from typing import Any

from mooring.errors import InvalidParameter
from mooring.generation.sampling import SamplingParams, check_parameter
from mooring.packaging.json_file import read_optional_object
from mooring.spec.model_spec import BASE_DEFAULTS, ModelSpec

_MODELS_OWN = {
    "max_new_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
}


def choose_defaults(snapshot_path: Path, spec: ModelSpec, context_length: int) -> dict[str, Any]:
    """Return every sampling parameter: neutral, then ours, the model's own, the person's.

    `max_tokens` is capped by `context_length`, in tokens.
    """
    chosen = SamplingParams().update(BASE_DEFAULTS)
    chosen = chosen.update(_models_own(snapshot_path)).update(spec.defaults)
    if chosen.max_tokens is not None:
        chosen = chosen.update({"max_tokens": min(chosen.max_tokens, context_length)})
    return chosen.to_dict()


def _models_own(snapshot_path: Path) -> dict[str, Any]:
    """Return what generation_config.json asks for, as far as it is within our bounds."""
    config = read_optional_object(snapshot_path / "generation_config.json")
    own = {
        name: config[key]
        for key, name in _MODELS_OWN.items()
        if config.get(key) is not None and _is_allowed(name, config[key])
    }
    if config.get("do_sample") is False:
        own["temperature"] = 0.0
    return own


def _is_allowed(name: str, value: Any) -> bool:
    try:
        check_parameter(name, value)
    except InvalidParameter:
        return False
    return True
