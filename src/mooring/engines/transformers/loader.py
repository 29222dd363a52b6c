"""Loads a snapshot's model with transformers: safetensors only, offline, on the right device."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mooring.engines.transformers.placement import Placement, place
from mooring.engines.transformers.weights import read_weights
from mooring.errors import BrokenSource, MissingDependency, NotEnoughMemory, UnsafeSource
from mooring.settings import EngineSettings

# What a model's own code, transformers or a damaged file may raise while they load or run.
MODEL_ERRORS = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in eval mode, ready for `forward`; `device` and `precision` as shown to people."""

    model: Any
    device: str
    precision: str
    vocabulary_size: int


def load_model(
    snapshot: Path, settings: EngineSettings, *, dtype: str, trust_remote_code: bool
) -> LoadedModel:
    """Load the model in `snapshot`; `settings.dtype` overrides `dtype`.

    Raises `MissingDependency`, `UnsafeSource` (it needs code that is not trusted), `BrokenSource`,
    `NotEnoughMemory`, or `InvalidParameter` (no such device).
    """
    _require_transformers()
    _check_code(snapshot, trust_remote_code)
    placement = place(read_weights(snapshot), settings.device, settings.dtype or dtype)
    with _quietly(), _errors_named(snapshot):
        if trust_remote_code:
            _import_code(snapshot)
        model = _from_pretrained(snapshot, placement, trust_remote_code)
    return LoadedModel(
        model=model,
        device=str(model.device),
        precision=str(model.dtype).removeprefix("torch."),
        vocabulary_size=int(model.config.get_text_config(decoder=True).vocab_size),
    )


def transformers_version() -> str:
    """Return the version of the installed transformers."""
    import transformers

    return str(transformers.__version__)


def _require_transformers() -> None:
    try:
        import safetensors
        import torch
        import transformers

        del safetensors, torch, transformers
    except ImportError as error:
        raise MissingDependency(
            f"The transformers engine needs a package that is not installed: {error.name}. "
            "Run: pip install 'mooring[transformers]'"
        ) from error


def _check_code(snapshot: Path, trust_remote_code: bool) -> None:
    """Refuse a model that only its own, untrusted code can load, or code of another repository."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = _read_config(snapshot)
    if not config.get("auto_map"):
        return
    if not trust_remote_code and config.get("model_type") not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UnsafeSource(
            "This model runs its own code, which must be trusted on purpose. "
            "Given: trust_remote_code=False. Read the code, then package it with "
            "trust_remote_code=True."
        )
    for reference in _code_references(config) if trust_remote_code else ():
        if "--" in reference:
            raise UnsafeSource(
                f"A model's code must be in its own folder. Given: {reference}, in another "
                "repository. Put the code files beside the weights and name them in auto_map."
            )


def _read_config(snapshot: Path) -> dict[str, Any]:
    try:
        config = json.loads((snapshot / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BrokenSource(f"{snapshot} has no readable config.json. Get it again.") from error
    if not isinstance(config, dict):
        raise BrokenSource(f"config.json of {snapshot} must be an object. Get it again.")
    return config


def _code_references(config: dict[str, Any]) -> list[str]:
    auto_map = config.get("auto_map") or {}
    found = (auto_map.get(name) for name in ("AutoConfig", "AutoModelForCausalLM"))
    return [reference for reference in found if isinstance(reference, str)]


def _import_code(snapshot: Path) -> None:
    """Import the model's code once, alone: transformers copies it to a folder all processes share.

    That folder is replaced by one of this process where it cannot be written.
    """
    from filelock import FileLock
    from transformers import dynamic_module_utils

    folder = Path(dynamic_module_utils.HF_MODULES_CACHE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        folder = Path(tempfile.mkdtemp(prefix="mooring-modules-"))
        dynamic_module_utils.HF_MODULES_CACHE = str(folder)
    with FileLock(folder / ".mooring.lock"):
        for reference in _code_references(_read_config(snapshot)):
            dynamic_module_utils.get_class_from_dynamic_module(
                reference, str(snapshot), local_files_only=True
            )


def _from_pretrained(snapshot: Path, placement: Placement, trust_remote_code: bool) -> Any:
    import transformers

    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        str(snapshot),
        dtype=placement.dtype,
        device_map=placement.device_map,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
    )
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        raise BrokenSource(
            f"The weights must fill the whole model. Missing or of another shape: {len(missing)}, "
            f"first {missing[0]}. Get the snapshot again."
        )
    _add_generation(model)
    return model.eval()


def _add_generation(model: Any) -> None:
    """Give remote code from before transformers 4.50 the generation methods it inherited then."""
    import transformers

    if not isinstance(model, transformers.GenerationMixin):
        bases = (type(model), transformers.GenerationMixin)
        model.__class__ = type(type(model).__name__, bases, {})


@contextmanager
def _quietly() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _errors_named(snapshot: Path) -> Iterator[None]:
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except ImportError as error:
        raise MissingDependency(
            f"The model's code needs a package that is not installed: {error}"
        ) from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise NotEnoughMemory(
            "The weights must fit into memory. Use a smaller dtype, a larger device or a "
            "smaller model."
        ) from error
    except (SafetensorError, *MODEL_ERRORS) as error:
        raise BrokenSource(f"The model in {snapshot} cannot be loaded: {error}") from error
