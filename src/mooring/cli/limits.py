"""Limits become options: one per field, from what the settings say of it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any

import typer

from mooring.settings import ServerLimits, ServiceLimits

_KINDS: dict[str, type] = {"int": int, "float": float}


def with_limits(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb an option for every limit; they arrive as its `limits`, by field name."""
    signature = inspect.signature(verb)
    own = [parameter for name, parameter in signature.parameters.items() if name != "limits"]
    added = [_option(field) for kind in (ServiceLimits, ServerLimits) for field in fields(kind)]
    names = {parameter.name for parameter in added}

    def run(**options: Any) -> None:
        limits = {name: options.pop(name) for name in names}
        verb(**options, limits=limits)

    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (*own, *added)}
    run.__doc__, run.__name__ = verb.__doc__, verb.__name__
    return run


def service_limits(limits: Mapping[str, Any]) -> ServiceLimits:
    """Return those of `limits` that the service keeps."""
    return ServiceLimits(**{field.name: limits[field.name] for field in fields(ServiceLimits)})


def server_limits(limits: Mapping[str, Any]) -> ServerLimits:
    """Return those of `limits` that the server keeps."""
    return ServerLimits(**{field.name: limits[field.name] for field in fields(ServerLimits)})


def _option(field: Field[Any]) -> inspect.Parameter:
    assert field.default is not MISSING
    kind = _KINDS[field.type if isinstance(field.type, str) else field.type.__name__]
    option = typer.Option(
        min=field.metadata["low"],
        max=field.metadata["high"],
        help=field.metadata["meaning"],
        rich_help_panel="Limits",
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[kind, option],
    )
