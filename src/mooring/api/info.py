"""What is inside a packaged model, for people and for scripts."""

from dataclasses import asdict, dataclass
from typing import Any

from mooring.errors import InvalidPrompt
from mooring.loading.bundle import open_bundle
from mooring.spec.manifest import Manifest

EXAMPLE = "What is machine learning?"


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One packaged model: its place, its manifest, and its prompt rendered on an example."""

    uri: str
    name: str
    version: str | None
    manifest: Manifest
    rendered_instruction: str
    rendered_conversation: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        report = {key: value for key, value in asdict(self).items() if key != "manifest"}
        manifest = self.manifest.model_dump(mode="json")
        return {**report, "digest": self.manifest.digest, **manifest}


def info(uri: str, *, tracking_uri: str | None = None, verify_hashes: bool = False) -> ModelReport:
    """Return the report on the packaged model behind `uri`; with `verify_hashes` read every byte.

    Raises `CorruptArtifact` if a file differs from the manifest.
    """
    bundle = open_bundle(uri, tracking_uri=tracking_uri, verify_hashes=verify_hashes)
    prompt = bundle.manifest.prompt
    conversation = [{"role": "user", "content": EXAMPLE}]
    try:
        rendered = prompt.render_messages(conversation)
    except InvalidPrompt:  # a format without a chat template takes no messages
        rendered = None
    return ModelReport(
        uri=uri,
        name=bundle.name,
        version=bundle.version,
        manifest=bundle.manifest,
        rendered_instruction=prompt.render_instruction(EXAMPLE),
        rendered_conversation=rendered,
    )
