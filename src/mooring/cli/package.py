"""`mooring package`: from a source to a registered model."""

from typing import Annotated, Literal

import typer

from mooring.cli.options import Json, Optimize, TrackingUri, named_texts, named_values
from mooring.cli.output import bytes_text, show_json, show_table, watching
from mooring.errors import InvalidInput


def package(
    source: Annotated[
        str, typer.Argument(help="`demo`, a folder, or a hub id such as mosaicml/mpt-7b-instruct.")
    ],
    name: Annotated[str, typer.Option(help="Name of the registered model.")],
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the hub id.")
    ] = None,
    prompt: Annotated[
        str, typer.Option(metavar="FORMAT", help="auto, chat, instruct, plain, or a Jinja file.")
    ] = "auto",
    system: Annotated[
        str | None, typer.Option(help="System text for requests that bring none.")
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="Precision to compute in."),
    ] = "auto",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Allow and pack the model's own code.")
    ] = False,
    requirement: Annotated[
        list[str] | None,
        typer.Option(metavar="PIP", help="A pip requirement to add or pin; may be repeated."),
    ] = None,
    default: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A default, e.g. temperature=0.1; repeatable."),
    ] = None,
    alias: Annotated[str | None, typer.Option(help="Alias to set on the new version.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A tag; may be repeated.")
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="MLflow experiment to log into.")] = None,
    signature: Annotated[
        Literal["open", "columns"],
        typer.Option(help="Leave inputs to Mooring, or declare columns that MLflow enforces."),
    ] = "open",
    weights: Annotated[
        Literal["share", "copy"],
        typer.Option(help="Share weight files with the source (reflink, hard link), or copy."),
    ] = "share",
    smoke_test: Annotated[
        bool, typer.Option("--smoke-test", help="Generate a few tokens before publishing.")
    ] = False,
    golden: Annotated[
        bool,
        typer.Option(
            "--golden/--no-golden",
            help="Keep a few tokens of plain transformers that engines must agree with.",
        ),
    ] = True,
    optimize: Optimize = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Package a model as one MLflow model and register it.

    [bold]Examples[/]

    mooring package demo --name demo --alias champion

    mooring package ./my-model --name my-model --prompt instruct --default temperature=0.1

    mooring package mosaicml/mpt-7b-instruct --name mpt-7b-instruct --optimize openvino:int4
    """
    from mooring.api.package import PackageOptions
    from mooring.api.package import package as package_model
    from mooring.spec.model_spec import ModelSpec

    if optimize and not golden:
        raise InvalidInput(
            "--optimize keeps a conversion only if it gives the golden tokens. Given: --no-golden."
        )
    spec = ModelSpec(
        source=source,
        revision=revision,
        prompt=prompt,
        system=system,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        requirements=tuple(requirement or ()),
        defaults=named_values(default, "--default"),
    )
    with watching() as watcher:
        packaged = package_model(
            spec,
            name=name,
            alias=alias,
            tags=named_texts(tag, "--tag"),
            experiment=experiment,
            tracking_uri=tracking_uri,
            options=PackageOptions(signature, weights, smoke_test, golden, tuple(optimize or ())),
            watcher=watcher,
        )
    if json:
        show_json(packaged.to_dict())
        return
    rows = {
        "uri": packaged.uri,
        "alias": alias or "none",
        "prompt format": packaged.prompt,
        "context": f"{packaged.context_length} tokens",
        "size": bytes_text(packaged.size_bytes),
        "digest": packaged.digest[:12],
        "took": f"{packaged.seconds:.1f} s",
    }
    show_table(f"Packaged {name}", rows)
