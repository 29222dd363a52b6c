"""Loads a snapshot's model with transformers: safetensors only, offline, on the right device."""

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooring.engines.transformers.placement import Placement, place
from mooring.engines.transformers.weights import read_weights
from mooring.errors import BrokenSource, MissingDependency, NotEnoughMemory, UnsafeSource
from mooring.settings import EngineSettings

if TYPE_CHECKING:
    from mooring.engines.transformers.constraint import Grammars

# What a model's own code, transformers or a damaged file may raise while they load or run.
MODEL_ERRORS = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError,
)  # fmt: skip


_KERNELS_BESIDE, _KERNELS_PER_ROW = 32, 4


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in eval mode, ready for `forward`; `device` and `precision` as shown to people.

    `grammars` keep answers to grammars, where the model's tokenizer lets them.
    """

    model: Any
    device: str
    precision: str
    vocabulary_size: int
    grammars: "Grammars | None" = None


def load_model(
    snapshot: Path, settings: EngineSettings, *, dtype: str, trust_remote_code: bool
) -> LoadedModel:
    """Load the model in `snapshot`; `settings.dtype` overrides `dtype`.

    Raises `MissingDependency`, `UnsafeSource` (it needs code that is not trusted), `BrokenSource`,
    `NotEnoughMemory`, or `InvalidParameter` (no such device).
    """
    _require_transformers()
    _check_code(snapshot, trust_remote_code)
    _keep_few_kernels(settings.max_running)
    placement = place(read_weights(snapshot), settings.device, settings.dtype or dtype)
    with _quietly(), errors_named(snapshot):
        model = _from_pretrained(snapshot, placement, trust_remote_code)
    return LoadedModel(
        model=model,
        device=str(model.device),
        precision=str(model.dtype).removeprefix("torch."),
        vocabulary_size=int(model.config.get_text_config(decoder=True).vocab_size),
    )


@contextmanager
def errors_named(snapshot: Path) -> Iterator[None]:
    """Turn what loading a model or running its first tokens may raise into errors of ours."""
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
        raise BrokenSource(f"The model in {snapshot} cannot be run: {error!r}") from error


def transformers_version() -> str:
    """Return the version of the installed transformers."""
    import transformers

    return str(transformers.__version__)


def _keep_few_kernels(max_running: int) -> None:
    """Bound the kernels that oneDNN and PyTorch keep: 1024 each by default, of up to megabytes.

    In 16 bits, attention needs new ones whenever its keys grow; gigabytes were held that nothing
    uses again. One step needs two for each row that runs, and a dozen; it must find them all in
    the next layer: with half of them kept, 32 rows were twenty times slower. Read when the process
    first computes.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(_KERNELS_BESIDE + _KERNELS_PER_ROW * max_running))


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
    for reference in _code_references(config).values() if trust_remote_code else ():
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


def _code_references(config: dict[str, Any]) -> dict[str, str]:
    """Return what `auto_map` says of configuration and model: `module.Class` by auto class."""
    auto_map = config.get("auto_map") or {}
    found = {name: auto_map.get(name) for name in ("AutoConfig", "AutoModelForCausalLM")}
    return {name: reference for name, reference in found.items() if isinstance(reference, str)}


def _import_code(snapshot: Path) -> dict[str, Any]:
    """Return the snapshot's own classes by auto class.

    Transformers copies the code to a folder that all processes share, so one imports at a time;
    a folder of this process takes its place where it cannot be written.
    """
    from filelock import FileLock
    from transformers import dynamic_module_utils

    folder = Path(dynamic_module_utils.HF_MODULES_CACHE)
    if not _is_writable(folder):
        folder = Path(tempfile.mkdtemp(prefix="mooring-modules-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        dynamic_module_utils.HF_MODULES_CACHE = str(folder)
    with FileLock(folder / ".mooring.lock"):
        return {
            name: dynamic_module_utils.get_class_from_dynamic_module(
                reference, str(snapshot), local_files_only=True
            )
            for name, reference in _code_references(_read_config(snapshot)).items()
        }


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _from_pretrained(snapshot: Path, placement: Placement, trust_remote_code: bool) -> Any:
    model_class, arguments = _model_class(snapshot, trust_remote_code)
    model, info = model_class.from_pretrained(
        str(snapshot),
        dtype=placement.dtype,
        device_map=placement.device_map,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        **arguments,
    )
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        raise BrokenSource(
            f"The weights must fill the whole model. Missing or of another shape: {len(missing)}, "
            f"first {missing[0]}. Get the snapshot again."
        )
    _add_generation(model)
    return model.eval()


def _model_class(snapshot: Path, trust_remote_code: bool) -> tuple[Any, dict[str, Any]]:
    """Return the class to load with, and its further arguments.

    The auto classes remember one model class per configuration class, and would load a second
    snapshot with the first one's code; so a snapshot's own class is used directly.
    """
    import transformers

    classes = _import_code(snapshot) if trust_remote_code else {}
    model_class = classes.get("AutoModelForCausalLM")
    if model_class is None:
        return transformers.AutoModelForCausalLM, {"trust_remote_code": trust_remote_code}
    model_class.register_for_auto_class("AutoModelForCausalLM")
    config_class = classes.get("AutoConfig", transformers.AutoConfig)
    return model_class, {
        "config": config_class.from_pretrained(str(snapshot), local_files_only=True)
    }


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
