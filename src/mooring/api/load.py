"""Load a packaged model into this process."""

from dataclasses import replace

from mooring.loading.bundle import Bundle, open_bundle
from mooring.loading.loaded import LoadedModel
from mooring.loading.start import UNBOUNDED, start_service
from mooring.machine import read_machine
from mooring.packaging.plan import Plan, make_plan, require_fit
from mooring.settings import EngineSettings


def load(
    uri: str, *, engine: EngineSettings | None = None, tracking_uri: str | None = None
) -> LoadedModel:
    """Return the packaged model behind `uri`, ready to answer.

    Raises `NotEnoughMemory` before anything is loaded if it cannot fit.
    """
    settings = engine or EngineSettings()
    bundle = open_bundle(uri, tracking_uri=tracking_uri)
    require_fit(plan_of(bundle, settings))
    return LoadedModel(start_service(bundle, settings, UNBOUNDED))


def plan_of(bundle: Bundle, settings: EngineSettings, *, concurrency: int = 1) -> Plan:
    """Return the plan for running `bundle`: at least one request of full context must fit."""
    manifest = bundle.manifest
    machine = read_machine()
    if settings.device == "cpu":
        machine = replace(machine, gpus=())
    return make_plan(
        manifest.facts,
        machine,
        dtype=settings.dtype or manifest.dtype,
        context_length=min(settings.context_length or 2**31, manifest.context_length),
        concurrency=concurrency,
    )
