"""Load a packaged model into this process."""

from dataclasses import replace

from mooring.loading.bundle import open_bundle
from mooring.loading.choice import conversion_to_run
from mooring.loading.loaded import LoadedModel
from mooring.loading.start import UNBOUNDED, start_service
from mooring.machine import read_machine
from mooring.packaging.plan import Converted, Plan, make_plan, require_fit
from mooring.settings import EngineSettings
from mooring.spec.manifest import Manifest


def load(
    uri: str, *, engine: EngineSettings | None = None, tracking_uri: str | None = None
) -> LoadedModel:
    """Return the packaged model behind `uri`, ready to answer.

    Raises `NotEnoughMemory` before anything is loaded if it cannot fit.
    """
    settings = engine or EngineSettings()
    bundle = open_bundle(uri, tracking_uri=tracking_uri)
    require_fit(plan_of(bundle.manifest, settings))
    return LoadedModel(start_service(bundle, settings, UNBOUNDED))


def plan_of(manifest: Manifest, settings: EngineSettings, *, concurrency: int = 1) -> Plan:
    """Return the plan for running a packaged model: one request of full context must fit at least.

    It is for the first engine that would be tried, with what that one loads.
    """
    machine = read_machine()
    converted = loaded_conversion(manifest, settings)
    if settings.device == "cpu" or converted is not None:
        machine = replace(machine, gpus=())
    return make_plan(
        manifest.facts,
        machine,
        dtype=settings.dtype or manifest.dtype,
        context_length=min(settings.context_length or 2**31, manifest.context_length),
        concurrency=concurrency,
        converted=converted,
    )


def loaded_conversion(manifest: Manifest, settings: EngineSettings) -> Converted | None:
    """Return the conversion that would be loaded; None where the snapshot is."""
    conversion = conversion_to_run(manifest, settings)
    return None if conversion is None else Converted(conversion.weights, conversion.size)
