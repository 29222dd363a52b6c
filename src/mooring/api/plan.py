"""Plan a deployment: will it fit, before anything is downloaded or loaded?"""

from typing import Literal

from mooring.api.load import loaded_conversion
from mooring.errors import InvalidInput, MooringError
from mooring.loading.bundle import is_uri, read_manifest
from mooring.machine import read_machine
from mooring.packaging.conversion import weight_formats
from mooring.packaging.inspection import inspect_source
from mooring.packaging.plan import Plan, expected_conversion, make_plan, with_conversions
from mooring.settings import EngineSettings
from mooring.spec.manifest import Manifest
from mooring.spec.model_spec import ModelSpec

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def plan(
    source: str,
    *,
    revision: str | None = None,
    dtype: Precision | None = None,
    context_length: int | None = None,
    concurrency: int = 8,
    tracking_uri: str | None = None,
    optimize: tuple[str, ...] = (),
) -> Plan:
    """Return what `source` needs and whether this machine has it.

    `source` is what `package` takes, or the URI or folder of a packaged model. From a hub id only
    the config and the headers of the weights are read. `optimize` are conversions to be made, as
    `package` takes them; without a GPU the first of them is what would run.
    """
    formats = weight_formats(optimize)
    machine = read_machine()
    manifest = _manifest_of(source, tracking_uri)
    if manifest is not None:
        if formats:
            raise InvalidInput("A packaged model is not converted again. Leave out --optimize.")
        facts, chosen = manifest.facts, dtype or manifest.dtype
        context_length = context_length or manifest.context_length
        converted = loaded_conversion(manifest, EngineSettings())
    else:
        # Looking at a model runs none of its code, so there is nothing to trust yet.
        spec = ModelSpec(source=source, revision=revision, trust_remote_code=True)
        facts, chosen = inspect_source(spec), dtype or "auto"
        converted = None if machine.gpus else expected_conversion(facts, formats)
    planned = make_plan(
        facts,
        machine,
        dtype=chosen,
        context_length=context_length,
        concurrency=concurrency,
        converted=converted,
    )
    return with_conversions(planned, facts, formats) if formats else planned


def _manifest_of(source: str, tracking_uri: str | None) -> Manifest | None:
    if is_uri(source):
        return read_manifest(source, tracking_uri=tracking_uri)
    try:
        return read_manifest(source)
    except MooringError:  # a folder or hub id that was never packaged
        return None
