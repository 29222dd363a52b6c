"""`--config`: a YAML file whose keys are the names of the options."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from mooring.errors import InvalidInput


def read_config(context: typer.Context, path: str | None) -> str | None:
    """Take the file's values where neither the command line nor the environment gives one."""
    if path is None:
        return None
    names = {_shown(parameter): parameter for parameter in context.command.params}
    del names["config"]  # a file does not name another
    values: dict[str, Any] = {}
    for key, value in _content(path).items():
        parameter = names.get(key)
        if parameter is None:
            near = get_close_matches(str(key), names, 1, cutoff=0)
            raise InvalidInput(
                f"{path}: unknown key `{str(key)[:60]}`. Did you mean `{near[0]}`?"
                if near
                else f"{path}: unknown key `{str(key)[:60]}`."
            )
        many = getattr(parameter, "multiple", False)
        values[parameter.name or ""] = _value(f"{path}: `{key}`", value, many=many)
    context.default_map = values
    return path


Config = Annotated[
    str | None,
    typer.Option(
        callback=read_config,
        is_eager=True,
        metavar="FILE",
        help="YAML with any of these options by name; the command line and variables come first.",
    ),
]


def _shown(parameter: Any) -> str:
    """Return the name of a parameter as it is written: `max-body-bytes`, or `uri`."""
    long = [option for option in parameter.opts if option.startswith("--")]
    return str(long[0] if long else parameter.name).removeprefix("--")


def _content(path: str) -> Mapping[Any, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", in line {where.line + 1}" if where else ""
        raise InvalidInput(f"{path} must be YAML{line}.") from None
    if not isinstance(content, Mapping):
        raise InvalidInput(f"{path} must hold keys and values, such as `port: 9000`.")
    return content


def _value(where: str, value: Any, *, many: bool) -> Any:
    """Return one value, or a list where an option may be repeated; texts are converted later."""
    if many:
        values = value if isinstance(value, list) else [value]
        return [_value(where, one, many=False) for one in values]
    if not isinstance(value, str | int | float):
        raise InvalidInput(f"{where} must be a text, a number, true or false.")
    return value if isinstance(value, bool) else str(value)
