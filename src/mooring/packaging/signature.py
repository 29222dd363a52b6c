"""The MLflow signature: what goes in, every sampling parameter with its default, what comes out."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from mooring.generation.sampling import SAMPLING_FIELDS, SamplingField

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ParamSpec, Schema

INPUT_COLUMNS = {
    "prompt": "string: one instruction",
    "messages": "array of {role, content}: one conversation",
}
"""The two columns a row may have, exactly one of them filled; written into the model's metadata."""

_MLFLOW_TYPES = {"int": "long", "float": "double", "bool": "boolean", "token_bias": "string"}


def build_signature(
    defaults: Mapping[str, Any], kind: Literal["open", "columns"] = "open"
) -> "ModelSignature":
    """Return the signature with this model's defaults.

    MLflow drops what its column check does not expect without an error: a list of strings becomes
    an empty frame, CSV is refused when a column is an array. So by default (`open`) the inputs are
    left unchecked by MLflow and Mooring checks every row itself. `columns` declares `prompt` and
    `messages` for registries that demand declared inputs, at the price of those two forms.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, Schema

    return ModelSignature(
        inputs=_columns() if kind == "columns" else None,
        outputs=Schema([ColSpec("string", "candidates")]),
        params=ParamSchema([_parameter(field, defaults[field.name]) for field in SAMPLING_FIELDS]),
    )


def _parameter(field: SamplingField, default: Any) -> "ParamSpec":
    from mlflow.types.schema import ParamSpec

    match field.kind:
        case "strings":
            return ParamSpec(field.name, "string", list(default), shape=(-1,))
        case "token_ids":
            return ParamSpec(field.name, "long", list(default), shape=(-1,))
        case "token_bias":
            return ParamSpec(field.name, "string", _bias_text(default))
        case kind:
            return ParamSpec(field.name, _MLFLOW_TYPES[kind], default)


def _bias_text(bias: Mapping[str, float]) -> str:
    """MLflow parameters know no free-form objects, so a bias travels as JSON text."""
    import json

    return json.dumps(dict(bias)) if bias else ""


def _columns() -> "Schema":
    from mlflow.types.schema import Array, ColSpec, DataType, Object, Property, Schema

    message = Object([Property("role", DataType.string), Property("content", DataType.string)])
    return Schema(
        [
            ColSpec("string", "prompt", required=False),
            ColSpec(Array(message), "messages", required=False),
        ]
    )
