"""Mooring packages any Hugging Face causal language model as one MLflow model and serves it.

The door: every public name, loaded on first use, so that `import mooring` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mooring.api.info import info
    from mooring.api.load import load
    from mooring.api.package import PackageOptions, log_model, package
    from mooring.api.plan import plan
    from mooring.api.serve import serve
    from mooring.errors import MooringError
    from mooring.settings import EngineSettings, ServerSettings
    from mooring.spec.model_spec import ModelSpec

__version__ = "0.1.0"

__all__ = [
    "EngineSettings",
    "ModelSpec",
    "MooringError",
    "PackageOptions",
    "ServerSettings",
    "info",
    "load",
    "log_model",
    "package",
    "plan",
    "serve",
]

_HOMES = {
    "EngineSettings": "mooring.settings",
    "ModelSpec": "mooring.spec.model_spec",
    "MooringError": "mooring.errors",
    "PackageOptions": "mooring.api.package",
    "ServerSettings": "mooring.settings",
    "info": "mooring.api.info",
    "load": "mooring.api.load",
    "log_model": "mooring.api.package",
    "package": "mooring.api.package",
    "plan": "mooring.api.plan",
    "serve": "mooring.api.serve",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mooring' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
