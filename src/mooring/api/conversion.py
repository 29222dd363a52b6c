"""Conversions of a model that is being packaged: made, and kept only where they prove right."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mooring.api.watching import Watcher
from mooring.engines.agreement import Agreement, compare
from mooring.engines.description import EngineDescription, has_openvino
from mooring.engines.process import ProcessEngine
from mooring.errors import ConversionFailed, MissingDependency, MooringError
from mooring.generation import Golden
from mooring.machine import read_machine, read_memory
from mooring.packaging.conversion import Converter
from mooring.packaging.converter_packages import SIZE_BYTES, converter_packages
from mooring.packaging.plan import Plan, require_room_to_convert, weight_bytes
from mooring.packaging.work_folder import CACHE_FOLDER, work_folder
from mooring.settings import Dtype, EngineSettings
from mooring.spec.facts import ModelFacts
from mooring.spec.manifest import Conversion, Manifest, SnapshotFile, WeightFormat, sha256_of

WORK_FOLDER = CACHE_FOLDER / "conversions"

NEVER = 1e6
"""Seconds: the first call on a large model may take long, and is not taken for a hang."""

_SHARE_FOR_WEIGHTS = 0.6


@dataclass(frozen=True, slots=True)
class Asked:
    """What to convert: a snapshot, its manifest without conversions, and the formats."""

    snapshot: Path
    manifest: Manifest
    formats: tuple[WeightFormat, ...]

    @property
    def golden(self) -> Golden:
        """The tokens that engines must agree with."""
        assert self.manifest.golden is not None, "made before, or packaging has failed"
        return self.manifest.golden


@dataclass(frozen=True, slots=True)
class Converted:
    """A conversion as the manifest holds it, and the folder where its files are now."""

    conversion: Conversion
    folder: Path


@contextmanager
def conversions(asked: Asked, watcher: Watcher) -> Iterator[tuple[Converted, ...]]:
    """Convert into a folder that is gone at the end.

    The attention is judged on the export in 16 bits, where no rounding of weights hides it: paged
    where that gives the golden tokens, one request at a time where only that does. What rounding
    the weights changes is judged for each format. Raises `ConversionFailed` where neither agrees,
    or `MissingDependency`.
    """
    if not asked.formats:
        yield ()
        return
    with work_folder(WORK_FOLDER) as scratch:
        converter = Converter(_packages(watcher))
        yield tuple(_convert(converter, asked, scratch, watcher))


def require_means_to_convert(plan: Plan) -> None:
    """Raise `MissingDependency`, `NotEnoughMemory` or `NotEnoughSpace`, before long work begins."""
    if not has_openvino():
        raise MissingDependency(
            "A conversion is checked before it is packaged, which needs openvino-genai. "
            "Install it with: pip install 'mooring[openvino]'"
        )
    WORK_FOLDER.mkdir(parents=True, exist_ok=True)
    require_room_to_convert(plan, read_machine(WORK_FOLDER))


def _packages(watcher: Watcher) -> Path:
    def installing() -> None:
        watcher.note(f"Installing the converter's packages, once: {SIZE_BYTES // 10**6} MB.")
        watcher.stage("Installing the converter's packages")

    return converter_packages(installing)


def _convert(
    converter: Converter, asked: Asked, scratch: Path, watcher: Watcher
) -> Iterator[Converted]:
    watcher.stage("Converting for OpenVINO")
    exported = scratch / "fp16"
    tools = converter.export(
        asked.snapshot, exported, trust_remote_code=asked.manifest.trust_remote_code
    )
    watcher.stage("Comparing its attention with golden tokens")
    paged = _paged_is_right(asked, exported)
    way = "continuous batching" if paged else "one request at a time: its paged attention is wrong"
    watcher.note(f"Converted for OpenVINO: {way}.")
    for weights in asked.formats:
        folder, used = scratch / weights, tools
        if weights != "fp16":
            watcher.stage(f"Rounding the weights to {weights}")
            used = tools | converter.compress(exported, folder, weights)
            watcher.stage(f"Comparing {weights} with golden tokens")
            _require_close(asked, folder, weights, paged=paged)
        files = _hash_files(folder, watcher)
        yield Converted(Conversion(weights=weights, paged=paged, files=files, tools=used), folder)


def _paged_is_right(asked: Asked, exported: Path) -> bool:
    """Say whether paged attention gives the golden tokens; raise where plain attention gives others
    too.
    """
    dtype: Dtype = "float32" if _fits_in_float32(asked.manifest.facts) else "auto"
    if _agreement(asked, exported, "fp16", paged=True, dtype=dtype) is None:
        return True
    wrong = _agreement(asked, exported, "fp16", paged=False, dtype=dtype)
    if wrong is not None:
        raise ConversionFailed(
            f"OpenVINO must give this model's golden tokens. Given: {wrong} "
            "Package it without --optimize; the transformers engine serves it."
        )
    return False


def _require_close(asked: Asked, folder: Path, weights: WeightFormat, *, paged: bool) -> None:
    wrong = _agreement(asked, folder, weights, paged=paged, dtype="auto")
    if wrong is not None:
        raise ConversionFailed(
            f"With weights rounded to {weights} the model must stay near its golden tokens. "
            f"Given: {wrong} Leave out --optimize openvino:{weights}, or take a wider format."
        )


def _agreement(
    asked: Asked, folder: Path, weights: WeightFormat, *, paged: bool, dtype: Dtype
) -> str | None:
    """Return what is wrong with a conversion's tokens, in a child process; None if nothing is."""
    engine = ProcessEngine(
        EngineDescription(
            snapshot=str(asked.snapshot),
            context_length=asked.manifest.context_length,
            vocabulary_size=asked.manifest.facts.vocabulary_size,
            settings=EngineSettings("openvino", "cpu", dtype, hang_seconds=NEVER),
            end_token_ids=asked.manifest.facts.end_token_ids,
            converted=str(folder),
            converted_weights=weights,
            paged=paged,
            cache_values_per_token=asked.manifest.facts.cache_values_per_token,
        )
    )
    try:
        capabilities = engine.start()
        found = compare(engine, capabilities, asked.golden, asked.manifest.facts.end_token_ids)
    except MooringError as error:
        return error.message
    finally:
        engine.close()
    return _complaint(found)


def _complaint(found: Agreement) -> str | None:
    wrong = found.first_wrong
    if wrong is None:
        return None if found.tokens else "no golden prompt that fits its context."
    far = "not among the best" if wrong.gap is None else f"{wrong.gap:.3f} spreads below"
    return (
        f"{len(found.partings)} of {found.tokens} tokens differ, the first beyond the tolerance of "
        f"{found.tolerance:g} spreads in answer {wrong.answer} at position {wrong.position}: "
        f"{wrong.given} for {wrong.expected}, {far}."
    )


def _fits_in_float32(facts: ModelFacts) -> bool:
    return weight_bytes(facts, "float32") <= read_memory()[1] * _SHARE_FOR_WEIGHTS


def _hash_files(folder: Path, watcher: Watcher) -> tuple[SnapshotFile, ...]:
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    watcher.stage("Hashing the conversion", sum(sizes.values()))
    return tuple(
        SnapshotFile(path=name, size=size, sha256=sha256_of(folder / name, watcher.advance))
        for name, size in sizes.items()
    )
