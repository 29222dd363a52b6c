"""Compare an engine with a packaged model's golden tokens, and say where they part."""

from dataclasses import asdict, dataclass
from typing import Any

from mooring.engines.agreement import Agreement, compare
from mooring.engines.contract import Capabilities
from mooring.errors import InvalidInput
from mooring.loading.bundle import open_bundle
from mooring.loading.choice import candidates
from mooring.loading.start import engine_of, tokenizer_of
from mooring.settings import EngineSettings


@dataclass(frozen=True, slots=True)
class PartingText:
    """Where the engine took another token, as text: `after` is what both had said until there."""

    answer: int
    position: int
    after: str
    expected: str
    expected_id: int
    given: str | None
    given_id: int | None
    gap: float | None
    tolerated: bool


@dataclass(frozen=True, slots=True)
class Verification:
    """What comparing `engine` with the golden tokens of `uri` found; gaps are in spreads."""

    uri: str
    engine: str
    engine_version: str
    device: str
    precision: str
    golden_precision: str
    tokens: int
    tolerance: float
    agrees: bool
    partings: tuple[PartingText, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def verify(
    uri: str,
    *,
    engine: EngineSettings | None = None,
    tracking_uri: str | None = None,
    verify_hashes: bool = False,
) -> Verification:
    """Run the first engine that `engine` allows over the golden prompts, whatever was found before.

    With `verify_hashes` every byte is compared with the manifest first. Raises `InvalidInput` if
    the model was packaged without golden tokens or the engine gives nothing to compare them with,
    `CorruptArtifact` if a file differs.
    """
    bundle = open_bundle(uri, tracking_uri=tracking_uri, verify_hashes=verify_hashes)
    golden = bundle.manifest.golden
    if golden is None:
        raise InvalidInput(
            "Only a model with golden tokens can be compared. Given: a model packaged without. "
            "Package it again with --golden."
        )
    chosen = engine_of(bundle, candidates(bundle, engine or EngineSettings())[0])
    try:
        capabilities = chosen.start()
        agreement = compare(chosen, capabilities, golden, bundle.manifest.facts.end_token_ids)
    finally:
        chosen.close()
    if not agreement.tokens:
        raise InvalidInput(
            "Only an engine that gives token ids, in a context as long as a golden prompt, can be "
            f"compared. Given: {capabilities.name} {capabilities.version} with a context of "
            f"{capabilities.context_length} tokens. Nothing is known of it."
        )
    tokenizer = tokenizer_of(bundle)
    partings = tuple(
        PartingText(
            answer=parting.answer,
            position=parting.position,
            after=tokenizer.decode(golden.answers[parting.answer].token_ids[: parting.position]),
            expected=tokenizer.decode([parting.expected]),
            expected_id=parting.expected,
            given=None if parting.given is None else tokenizer.decode([parting.given]),
            given_id=parting.given,
            gap=None if parting.gap is None else round(parting.gap, 4),
            tolerated=parting.tolerated,
        )
        for parting in agreement.partings
    )
    return _verification(uri, golden.precision, capabilities, agreement, partings)


def _verification(
    uri: str,
    golden_precision: str,
    capabilities: Capabilities,
    agreement: Agreement,
    partings: tuple[PartingText, ...],
) -> Verification:
    return Verification(
        uri=uri,
        engine=capabilities.name,
        engine_version=capabilities.version,
        device=capabilities.device,
        precision=capabilities.precision,
        golden_precision=golden_precision,
        tokens=agreement.tokens,
        tolerance=agreement.tolerance,
        agrees=agreement.agrees,
        partings=partings,
    )
