"""Mooring packages any Hugging Face causal language model as one MLflow model and serves it.

The door: every public name, loaded on first use, so that `import mooring` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mooring.errors import MooringError
    from mooring.spec.model_spec import ModelSpec

__version__ = "0.1.0"

_HOMES = {
    "ModelSpec": "mooring.spec.model_spec",
    "MooringError": "mooring.errors",
}

__all__ = ["ModelSpec", "MooringError"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mooring' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
