"""Which engines may serve a bundle here, the fastest first, and which of its conversions."""

import platform
from dataclasses import replace

from mooring.engines.description import has_openvino
from mooring.errors import InvalidInput, InvalidParameter
from mooring.loading.bundle import Bundle
from mooring.machine import read_machine
from mooring.settings import EngineName, EngineSettings
from mooring.spec.manifest import PREFERRED_WEIGHTS, Conversion, Manifest


def candidates(bundle: Bundle, settings: EngineSettings) -> list[EngineSettings]:
    """Return the engine that was named; for `auto` all that can run, to be tried in order.

    Raises `InvalidInput` where a conversion is named that is not there, or that nothing would run.
    """
    return [replace(settings, name=name) for name in _names(bundle.manifest, settings)]


def conversion_to_run(manifest: Manifest, settings: EngineSettings) -> Conversion | None:
    """Return the conversion that the first candidate runs; None where it runs the snapshot."""
    if _names(manifest, settings)[0] != "openvino":
        return None
    return _chosen(manifest, settings)


def _names(manifest: Manifest, settings: EngineSettings) -> list[EngineName]:
    chosen = _chosen(manifest, settings)
    if settings.name != "auto":
        return [settings.name]
    if settings.conversion is not None:
        return ["openvino"]
    fast = chosen is not None and has_openvino() and _runs_on_cpu(settings)
    return ["openvino", "transformers"] if fast else ["transformers"]


def _chosen(manifest: Manifest, settings: EngineSettings) -> Conversion | None:
    wanted = settings.conversion
    if wanted is not None and settings.name not in ("auto", "openvino"):
        raise InvalidParameter(
            "`conversion` is for the openvino engine. "
            f"Given: {wanted} and the {settings.name} engine. Leave one out.",
            param="conversion",
        )
    there = {conversion.weights: conversion for conversion in manifest.conversions}
    if wanted is None:
        return next((there[weights] for weights in PREFERRED_WEIGHTS if weights in there), None)
    if wanted not in there:
        raise InvalidInput(
            f"This model holds {', '.join(there) or 'no conversion'}. Given: {wanted}. "
            f"Package it again with --optimize openvino:{wanted}.",
            param="conversion",
        )
    return there[wanted]


def _runs_on_cpu(settings: EngineSettings) -> bool:
    if settings.device != "auto":
        return settings.device == "cpu"
    has_apple_gpu = platform.system() == "Darwin" and platform.machine() == "arm64"
    return not has_apple_gpu and not read_machine().gpus
