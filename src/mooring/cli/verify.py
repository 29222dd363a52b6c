"""`mooring verify`: does an engine give the tokens that the model gave when it was packaged?"""

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from mooring.cli import upstream
from mooring.cli.options import Conversion, Device, Dtype, Json, TrackingUri, Uri
from mooring.cli.output import out, show_json, show_table, watching

if TYPE_CHECKING:
    from mooring.api.verify import Verification

EXIT_DISAGREES = 1


def verify(
    uri: Uri,
    engine: Annotated[
        Literal["auto", "transformers", "openvino", "upstream"],
        typer.Option(help="The engine to compare; upstream is another server."),
    ] = "auto",
    conversion: Conversion = None,
    device: Device = "auto",
    dtype: Dtype = None,
    upstream_preset: upstream.Preset = None,
    upstream_command: upstream.Command = None,
    upstream_url: upstream.Url = None,
    upstream_start_seconds: upstream.StartSeconds = 600.0,
    hashes: Annotated[
        bool, typer.Option("--hashes", help="First compare every byte with the manifest.")
    ] = False,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Compare an engine with the model's golden tokens; exit with 1 if it gives others.

    [bold]Examples[/]

    mooring verify models:/demo@champion

    mooring verify models:/demo@champion --engine transformers --dtype float32 --json

    mooring verify models:/demo@champion --engine upstream --upstream-preset vllm
    """
    from mooring.api.verify import verify as compare
    from mooring.settings import EngineSettings

    settings = EngineSettings(
        engine,
        device,
        dtype,
        conversion=conversion,
        upstream=upstream.upstream_settings(
            engine, upstream_preset, upstream_command, upstream_url, upstream_start_seconds
        ),
    )
    with watching() as watcher:
        watcher.stage("Comparing")
        found = compare(
            uri,
            engine=settings,
            tracking_uri=tracking_uri,
            verify_hashes=hashes,
        )
    if json:
        show_json(found.to_dict())
    else:
        _show(found)
    if not found.agrees:
        raise typer.Exit(EXIT_DISAGREES)


def _show(found: "Verification") -> None:
    rows = {
        "engine": f"{found.engine} {found.engine_version} in {found.precision} on {found.device}",
        "golden tokens": f"{found.tokens}, by transformers in {found.golden_precision}",
        "tolerance": f"{found.tolerance:g} spreads of the logits",
        "other tokens": f"{len(found.partings)}, of which tolerated: "
        f"{sum(parting.tolerated for parting in found.partings)}",
        "agrees": "yes" if found.agrees else "no: it does not serve this model",
    }
    show_table(found.uri, rows)
    if not found.partings:
        return
    table = Table(title="Where they part", title_justify="left")
    for column in ("answer", "position", "after", "expected", "given", "gap", "tolerated"):
        table.add_column(column, overflow="fold")
    for parting in found.partings:
        table.add_row(
            str(parting.answer),
            str(parting.position),
            repr(parting.after[-40:]),
            f"{parting.expected!r} ({parting.expected_id})",
            "nothing" if parting.given_id is None else f"{parting.given!r} ({parting.given_id})",
            "not among the best" if parting.gap is None else f"{parting.gap:.4f}",
            "yes" if parting.tolerated else "no",
        )
    out.print(table)
