"""An engine serves a model only after agreeing with its golden tokens; once per machine."""

import hashlib
import json
import logging
import os
from contextlib import suppress
from pathlib import Path

import mooring
from mooring.engines.agreement import Agreement, Parting, compare
from mooring.engines.contract import Capabilities, Engine
from mooring.errors import EngineDisagrees
from mooring.loading.bundle import Bundle
from mooring.machine import cpu_name
from mooring.spec.manifest import Manifest

logger = logging.getLogger(__name__)

# `Path.expanduser` raises where there is no home.
VERDICTS_FOLDER = Path(os.path.expanduser("~/.cache/mooring/checks"))
_REFERENCE = "transformers"
# What stands behind it may be another one at the next start.
_UNKNOWN_BEHIND = "upstream"

# Says back what it is told, for load runs of what stands in front of an engine.
_ANSWERS_FOR_NO_MODEL = "echo"


def require_agreement(
    engine: Engine, capabilities: Capabilities, bundle: Bundle, folder: Path | None = None
) -> None:
    """Compare a started engine with the bundle's golden tokens, unless that was done before.

    Raises `EngineDisagrees`. A verdict, kept in `folder`, holds for this manifest, this Mooring,
    this CPU and an engine with just these capabilities. Without golden tokens nothing is compared.
    """
    golden = bundle.manifest.golden
    if capabilities.name == _ANSWERS_FOR_NO_MODEL:
        return
    if golden is None:
        _note_missing(capabilities)
        return
    verdict = (folder or VERDICTS_FOLDER) / f"{_key(bundle.manifest, capabilities)}.json"
    if capabilities.name != _UNKNOWN_BEHIND and _is_good(verdict):
        return
    agreement = compare(engine, capabilities, golden, bundle.manifest.facts.end_token_ids)
    if not agreement.tokens:
        logger.warning(
            "The engine is not compared: no golden prompt fits its context, or it says no tokens."
        )
        return
    wrong = agreement.first_wrong
    if wrong is not None:
        raise EngineDisagrees(_complaint(capabilities, agreement, wrong))
    logger.info("The %s engine agrees on %d golden tokens.", capabilities.name, agreement.tokens)
    _remember(verdict, capabilities, agreement)


def _note_missing(capabilities: Capabilities) -> None:
    level = logging.INFO if capabilities.name == _REFERENCE else logging.WARNING
    logger.log(
        level,
        "This model was packaged without golden tokens: the %s engine is not compared with them.",
        capabilities.name,
    )


def _key(manifest: Manifest, capabilities: Capabilities) -> str:
    parts = [manifest.model_dump_json(), repr(capabilities), mooring.__version__, cpu_name()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _is_good(verdict: Path) -> bool:
    """Say whether an earlier comparison agreed; a damaged file says nothing."""
    try:
        return bool(json.loads(verdict.read_bytes())["agrees"])
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _remember(verdict: Path, capabilities: Capabilities, agreement: Agreement) -> None:
    """Keep a verdict for the next start; without a place to keep it, the next start compares."""
    content = {
        "agrees": True,
        "engine": f"{capabilities.name} {capabilities.version}",
        "precision": capabilities.precision,
        "tokens": agreement.tokens,
        "tolerated": len(agreement.partings),
    }
    with suppress(OSError):
        verdict.parent.mkdir(parents=True, exist_ok=True)
        partial = verdict.with_name(f".partial-{verdict.name}-{os.getpid()}")
        try:
            partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
            partial.replace(verdict)
        finally:
            partial.unlink(missing_ok=True)


def _complaint(capabilities: Capabilities, agreement: Agreement, wrong: Parting) -> str:
    far = "not among the best" if wrong.gap is None else f"{wrong.gap:.3f} spreads below"
    return (
        f"The {capabilities.name} engine must give this model's golden tokens in "
        f"{capabilities.precision}, within {agreement.tolerance:g} spreads of the logits. In "
        f"answer {wrong.answer}, position {wrong.position}, token {wrong.expected} was expected. "
        f"Given: {wrong.given}, {far}. It does not serve this model. Look closer with "
        f"`mooring verify URI --engine {capabilities.name}`, or use --engine transformers."
    )
