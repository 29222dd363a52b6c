"""`mooring info`: what is inside a packaged model."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mooring.cli.options import Json, TrackingUri, Uri
from mooring.cli.output import bytes_text, out, show_json, show_table

if TYPE_CHECKING:
    from mooring.spec.manifest import Conversion, Manifest, Origin


def info(
    uri: Uri,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte and compare it with the manifest.")
    ] = False,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Show source, commit, prompt, defaults, files, hashes and requirements of a packaged model.

    [bold]Examples[/]

    mooring info models:/demo@champion

    mooring info models:/demo/1 --verify --json
    """
    from mooring.api.info import info as report_on

    report = report_on(uri, tracking_uri=tracking_uri, verify_hashes=verify)
    if json:
        show_json(report.to_dict())
        return
    manifest = report.manifest
    facts, origin = manifest.facts, manifest.origin
    rows: dict[str, Any] = {
        "version": report.version or "not registered",
        "source": "the bundled demo model" if origin.kind == "demo" else _named(origin),
        "commit": origin.commit or "none",
        "architecture": f"{facts.architecture} ({facts.model_type})",
        "parameters": f"{facts.parameters:,}",
        "own code": "yes, trusted at packaging" if facts.own_code else "no",
        "context": f"{manifest.context_length:,} tokens",
        "precision": manifest.dtype,
        "golden tokens": _golden(manifest),
        "conversions": "\n".join(map(_described, manifest.conversions)) or "none",
        "prompt format": manifest.prompt.kind,
        "digest": manifest.digest,
        "packaged by": f"Mooring {manifest.mooring_version}",
        "requirements": "\n".join(manifest.requirements),
        "defaults": "\n".join(f"{key} = {value}" for key, value in manifest.defaults.items()),
    }
    show_table(report.name, rows)
    out.print("\n[bold]The prompt as the model sees it[/]")
    out.print(report.rendered_instruction, markup=False, highlight=False)
    files = Table(title="Files", title_justify="left")
    for column in ("path", "size", "sha256"):
        files.add_column(column, overflow="fold")
    for file in manifest.files:
        files.add_row(file.path, bytes_text(file.size), file.sha256)
    for conversion in manifest.conversions:
        folder = conversion.folder.rpartition("/")[2]
        for file in conversion.files:
            files.add_row(f"{folder}/{file.path}", bytes_text(file.size), file.sha256)
    out.print(files)


def _golden(manifest: "Manifest") -> str:
    golden = manifest.golden
    if golden is None:
        return "none"
    count = sum(len(answer.steps) for answer in golden.answers)
    return f"{count}, by transformers {golden.transformers} in {golden.precision}"


def _described(conversion: "Conversion") -> str:
    way = "continuous batching" if conversion.paged else "one request at a time"
    tools = ", ".join(f"{name} {version}" for name, version in conversion.tools.items())
    return f"{conversion.name}, {bytes_text(conversion.size)}, {way}; by {tools}"


def _named(origin: "Origin") -> str:
    return f"{origin.kind} {origin.name}"
