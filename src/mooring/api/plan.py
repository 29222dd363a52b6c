"""Plan a deployment: will it fit, before anything is downloaded or loaded?"""

from typing import Literal

from mooring.errors import MooringError
from mooring.loading.bundle import is_uri, read_manifest
from mooring.machine import read_machine
from mooring.packaging.inspection import inspect_source
from mooring.packaging.plan import Plan, make_plan
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
) -> Plan:
    """Return what `source` needs and whether this machine has it.

    `source` is what `package` takes, or the URI or folder of a packaged model. From a hub id only
    the config and the headers of the weights are read.
    """
    manifest = _manifest_of(source, tracking_uri)
    if manifest is not None:
        facts, chosen = manifest.facts, dtype or manifest.dtype
        context_length = context_length or manifest.context_length
    else:
        # Looking at a model runs none of its code, so there is nothing to trust yet.
        spec = ModelSpec(source=source, revision=revision, trust_remote_code=True)
        facts, chosen = inspect_source(spec), dtype or "auto"
    return make_plan(
        facts,
        read_machine(),
        dtype=chosen,
        context_length=context_length,
        concurrency=concurrency,
    )


def _manifest_of(source: str, tracking_uri: str | None) -> Manifest | None:
    if is_uri(source):
        return read_manifest(source, tracking_uri=tracking_uri)
    try:
        return read_manifest(source)
    except MooringError:  # a folder or hub id that was never packaged
        return None
