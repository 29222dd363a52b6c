"""Which engines may serve a bundle here, the fastest first."""

from dataclasses import replace

from mooring.loading.bundle import Bundle
from mooring.settings import EngineSettings


def candidates(bundle: Bundle, settings: EngineSettings) -> list[EngineSettings]:
    """Return the engine that was named; for `auto` all that can run, to be tried in order."""
    if settings.name != "auto":
        return [settings]
    return [replace(settings, name="transformers")]
