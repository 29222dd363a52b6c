"""`mooring plan`: will it fit?"""

from typing import Annotated, Literal

import typer

from mooring.cli.options import Json, Optimize, TrackingUri
from mooring.cli.output import show_json, show_plan

EXIT_DOES_NOT_FIT = 1


def plan(
    source: Annotated[
        str, typer.Argument(help="`demo`, a folder, a hub id, or the URI of a packaged model.")
    ],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"] | None,
        typer.Option(help="Precision to compute in; the model's own choice if not given."),
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="Tokens of context; the model's own if not given.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests side by side.")] = 8,
    optimize: Optimize = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Say what a model needs and whether this machine has it, before any download or load.

    Exits 1 if it does not fit.

    [bold]Examples[/]

    mooring plan demo

    mooring plan mosaicml/mpt-7b-instruct --context 2048 --concurrency 4
    """
    from mooring.api.plan import plan as make_plan

    planned = make_plan(
        source,
        revision=revision,
        dtype=dtype,
        context_length=context,
        concurrency=concurrency,
        tracking_uri=tracking_uri,
        optimize=tuple(optimize or ()),
    )
    if json:
        show_json(planned.to_dict())
    else:
        show_plan(planned)
    if not planned.fits:
        raise typer.Exit(EXIT_DOES_NOT_FIT)
