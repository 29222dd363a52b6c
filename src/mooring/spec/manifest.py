"""The manifest: what is inside one artifact, written at packaging and checked at loading."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mooring.errors import CorruptArtifact
from mooring.generation import Golden, SamplingParams
from mooring.spec.facts import ModelFacts
from mooring.spec.prompt import PromptFormat
from mooring.spec.tokenizer import TokenizerReading

MANIFEST_VERSION = 3
MANIFEST_PATH = "artifacts/manifest.json"
SNAPSHOT_FOLDER = "artifacts/snapshot"

_CHUNK_BYTES = 4 * 1024 * 1024
_SMALL_BYTES = 1024 * 1024


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Origin(_Frozen):
    """Where the model came from; `commit` is the hub commit that was fixed."""

    kind: Literal["demo", "folder", "hub"]
    name: str
    revision: str | None = None
    commit: str | None = None


class SnapshotFile(_Frozen):
    """One file of the snapshot or of a conversion: path below it, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


WeightFormat = Literal["int8", "int4", "fp16"]
PREFERRED_WEIGHTS: tuple[WeightFormat, ...] = ("int8", "int4", "fp16")
"""Which conversion runs where there are several: fast and near to the original first."""


class Conversion(_Frozen):
    """The same model in another engine's format, beside the snapshot.

    `paged` says whether that engine's paged attention gets this model right; where it does not, the
    engine runs one request at a time. `tools` are the versions of the packages that converted it.
    """

    kind: Literal["openvino"] = "openvino"
    weights: WeightFormat
    paged: bool
    files: tuple[SnapshotFile, ...]
    tools: dict[str, str]

    @property
    def name(self) -> str:
        """What it is called where it is asked for: `openvino:int8`."""
        return f"{self.kind}:{self.weights}"

    @property
    def folder(self) -> str:
        """Where it is in the artifact."""
        return f"artifacts/{self.kind}-{self.weights}"

    @property
    def size(self) -> int:
        """What its files hold, in bytes."""
        return sum(file.size for file in self.files)


class Manifest(_Frozen):
    """Everything that loading needs to know, so that it reads no config of the model itself.

    `golden` is what engines must agree with before they serve; None where it was not made.
    `tokenizer` says how to tokenize without transformers; None where that cannot be.
    `conversions` are the formats of other engines that the artifact holds besides the snapshot.
    """

    version: int = MANIFEST_VERSION
    mooring_version: str
    origin: Origin
    facts: ModelFacts
    context_length: int
    prompt: PromptFormat
    defaults: dict[str, Any]
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    trust_remote_code: bool
    requirements: tuple[str, ...]
    files: tuple[SnapshotFile, ...]
    golden: Golden | None = None
    tokenizer: TokenizerReading | None = None
    conversions: tuple[Conversion, ...] = ()

    @property
    def sampling(self) -> SamplingParams:
        """The model's own sampling defaults."""
        return SamplingParams().update(self.defaults)

    @property
    def size(self) -> int:
        """What the files of the snapshot and of all conversions hold, in bytes."""
        converted = sum(conversion.size for conversion in self.conversions)
        return converted + sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """SHA-256 over the snapshot's file hashes: equal digests mean equal models."""
        lines = "".join(f"{file.sha256}  {file.path}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read from JSON; raise `CorruptArtifact` if missing, damaged or from a newer Mooring."""
        try:
            text = path.read_bytes()
        except OSError:
            raise CorruptArtifact(
                f"{MANIFEST_PATH} is missing: this is not a model packaged by Mooring. "
                "Package it with `mooring package`."
            ) from None
        try:
            found = _Version.model_validate_json(text).version
            if found > MANIFEST_VERSION:
                raise CorruptArtifact(
                    f"The manifest must have version <= {MANIFEST_VERSION}. Given: {found}. "
                    "Upgrade Mooring to load this model."
                )
            return cls.model_validate_json(text)
        except ValidationError:
            raise CorruptArtifact(f"{MANIFEST_PATH} is damaged. Package the model again.") from None

    def verify(self, folder: Path, *, hashes: bool) -> None:
        """Check that every file of the artifact in `folder` is there with its size, and its hash if
        asked or if it is small.

        Small files are always hashed: the model's own code and configuration are among them.
        Raises `CorruptArtifact` naming the first file that differs.
        """
        _verify(self.files, folder / SNAPSHOT_FOLDER, hashes=hashes)
        for conversion in self.conversions:
            _verify(conversion.files, folder / conversion.folder, hashes=hashes)


class _Version(BaseModel):
    version: int


def _verify(files: Iterable[SnapshotFile], folder: Path, *, hashes: bool) -> None:
    for file in files:
        path = folder / file.path
        size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise CorruptArtifact(f"{file.path}: the file is missing. Package the model again.")
        if size != file.size:
            raise CorruptArtifact(
                f"{file.path}: size differs from the manifest: {file.size} bytes expected, "
                f"{size} found. Package the model again."
            )
        if (hashes or size <= _SMALL_BYTES) and sha256_of(path) != file.sha256:
            raise CorruptArtifact(
                f"{file.path}: sha256 differs from the manifest. Package the model again."
            )


def sha256_of(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file in hex, read in chunks whose sizes `advance` is told."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if advance is not None:
                advance(len(chunk))
    return digest.hexdigest()
