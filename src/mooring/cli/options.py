"""Options that several verbs share, and how their texts become values."""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer

from mooring.errors import InvalidInput
from mooring.settings import WeightFormat

Uri = Annotated[
    str,
    typer.Argument(
        help="models:/NAME@ALIAS, models:/NAME/VERSION, another artifact URI, or a folder."
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where the model runs.")
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"] | None,
    typer.Option(help="Precision; what the artifact says if not given."),
]
OwnEngine = Annotated[
    Literal["auto", "transformers", "openvino"],
    typer.Option("--engine", help="What generates the tokens; the fastest that agrees if auto."),
]
Conversion = Annotated[
    WeightFormat | None,
    typer.Option(help="Which conversion the openvino engine runs; int8 first if not given."),
]
Optimize = Annotated[
    list[str] | None,
    typer.Option(
        metavar="openvino:[int8|int4|fp16]",
        help="A conversion for a faster engine, beside the weights; may be repeated.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        help="MLflow tracking server or store; MLflow's own choice if not given.",
        envvar="MLFLOW_TRACKING_URI",
        show_envvar=True,
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--param", "-p", metavar="NAME=VALUE", help="A sampling parameter, e.g. temperature=0."
    ),
]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMG]?I?)B?", re.IGNORECASE)


def byte_count(text: str) -> int:
    """Return a size such as `2GiB`, `500MB` or `1000000` in bytes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise typer.BadParameter(f"a size is bytes, or a number and MB, GB, MiB or GiB: {text!r}.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def named_values(pairs: Sequence[str] | None, option: str) -> dict[str, Any]:
    """Return `NAME=VALUE` texts as a mapping, each value read as JSON where it is JSON."""
    values = {}
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise InvalidInput(
                f"{option} takes NAME=VALUE. Given: {pair[:60]!r}. For example: "
                f"{option} temperature=0.1"
            )
        values[name] = _json_or_text(text)
    return values


def named_texts(pairs: Sequence[str] | None, option: str) -> dict[str, str]:
    """Return `KEY=VALUE` texts as a mapping of texts."""
    texts = {}
    for pair in pairs or ():
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{option} takes KEY=VALUE. Given: {pair[:60]!r}.")
        texts[name] = text
    return texts


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
