"""MLflow scoring bodies: every form MLflow takes, and nothing in them silently ignored."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mooring.errors import InvalidInput, InvalidParameter, InvalidPrompt
from mooring.generation import SAMPLING_FIELDS, TextToken
from mooring.protocol.body import parse_object
from mooring.protocol.call import Call
from mooring.protocol.openai.answers import AnswerHead, Choice, ChunkLines, EndReason, Usage
from mooring.protocol.rows import parse_rows, rows_of_columns

_SAMPLING_NAMES = frozenset(field.name for field in SAMPLING_FIELDS)
_TABLES = ("dataframe_split", "dataframe_records", "instances", "inputs")
_UNIFIED = ("prompt", "messages")


@dataclass(frozen=True, slots=True)
class InvocationCall(Call):
    """A scoring call; MLflow answers the unified form without `predictions` around it.

    With `stream` it has one row, and one answer in pieces.
    """

    unified: bool
    stream: bool = False

    def answer(self, candidates: Sequence[str]) -> dict[str, Any]:
        """Return the answer in the form that belongs to this call's form."""
        body = {"candidates": list(candidates)}
        return body if self.unified else {"predictions": body}


class InvocationFormat(ChunkLines):
    """A streamed answer: each event has the form of the whole, with the next piece as candidate."""

    id_prefix = ""

    def __init__(self, call: InvocationCall) -> None:
        self._call = call

    def whole(self, head: AnswerHead, choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
        """Return the answer that is not streamed."""
        return self._call.answer([choice.text for choice in choices])

    def opening(self, head: AnswerHead, index: int) -> list[dict[str, Any]]:
        """Return nothing: text comes first."""
        return []

    def delta(self, head: AnswerHead, index: int, text: str) -> list[dict[str, Any]]:
        """Return the event with the next piece."""
        return [self._call.answer([text])]

    def end(self, head: AnswerHead, index: int, reason: EndReason) -> list[dict[str, Any]]:
        """Return nothing: MLflow's answers do not say why they ended."""
        return []

    def logprobs(self, tokens: Sequence[TextToken]) -> dict[str, Any] | None:
        """Return nothing: MLflow's answers have none."""
        return None

    def usage(self, head: AnswerHead, usage: Usage) -> dict[str, Any]:
        """Return nothing: MLflow's answers do not say what they took."""
        return {}


def invocation_error(message: str, error_code: str) -> dict[str, str]:
    """Return an error in MLflow's form."""
    return {"error_code": error_code, "message": message}


def parse_invocation(body: bytes) -> InvocationCall:
    """Parse a JSON scoring body; raise an `InvalidInput` naming the field or the row."""
    fields = parse_object(body)
    if any(name in fields for name in _UNIFIED) and not any(name in fields for name in _TABLES):
        return _parse_unified(fields)
    given = [name for name in _TABLES if name in fields]
    if len(given) != 1:
        raise InvalidInput(
            f"The body must have exactly one of: {', '.join(_TABLES + _UNIFIED)}. "
            f"Given: {_listed(fields)}."
        )
    _refuse_unknown(fields, (given[0], "params", "stream"))
    prompts = parse_rows(_rows(given[0], fields[given[0]]))
    call = InvocationCall(tuple(prompts), _params(fields.get("params")), unified=False)
    return _streamed(call, fields.get("stream"))


def parse_csv(body: bytes) -> InvocationCall:
    """Parse a CSV scoring body: a header and one row per line; empty cells are missing."""
    try:
        text = body.decode("utf-8-sig")
        header, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    except UnicodeDecodeError:
        raise InvalidInput("CSV must be UTF-8.") from None
    except csv.Error as error:
        raise InvalidInput(f"The body must be valid CSV: {error}.") from None
    except ValueError:
        raise InvalidInput(
            "CSV must begin with a header: `prompt` or `messages`. Given: nothing."
        ) from None
    rows = [
        {name: cell or None for name, cell in _cells(header, line, row).items()}
        for row, line in enumerate(line for line in lines if line)
    ]
    return InvocationCall(tuple(parse_rows(rows)), {}, unified=False)


def parse_table(rows: Sequence[object]) -> InvocationCall:
    """Check the rows of a table that came as no text, one by one."""
    return InvocationCall(tuple(parse_rows(rows)), {}, unified=False)


def _parse_unified(fields: Mapping[str, Any]) -> InvocationCall:
    if "params" in fields:
        raise InvalidParameter(
            "Beside `prompt` or `messages`, parameters stand at the top level, without `params`.",
            param="params",
        )
    _refuse_unknown(fields, (*_UNIFIED, "stream", *_SAMPLING_NAMES))
    columns = {name: fields[name] for name in _UNIFIED if name in fields}
    parameters = {name: value for name, value in fields.items() if name in _SAMPLING_NAMES}
    prompts = parse_rows(rows_of_columns(columns))
    call = InvocationCall(tuple(prompts), _params(parameters), unified=True)
    return _streamed(call, fields.get("stream"))


def _streamed(call: InvocationCall, stream: Any) -> InvocationCall:
    """Return the call as it is to be answered; only one answer can be streamed."""
    if stream is None or stream is False:
        return call
    if stream is not True:
        raise InvalidParameter("`stream` must be true or false.", param="stream")
    n = call.parameters.get("n", 1)
    if len(call.prompts) != 1 or n != 1:
        raise InvalidParameter(
            "`stream` takes one row with `n` = 1. "
            f"Given: {len(call.prompts)} rows, `n` = {n!r:.9}. "
            "Send them one by one, or leave `stream` out.",
            param="stream",
        )
    return replace(call, stream=True, parameters={**call.parameters, "n": 1})


def _rows(form: str, value: Any) -> Sequence[object]:
    match form:
        case "dataframe_split":
            return _rows_of_split(value)
        case "dataframe_records":
            if isinstance(value, list) and all(isinstance(row, Mapping) for row in value):
                return value
            raise InvalidPrompt("`dataframe_records` must be a list of objects, one per row.")
        case _ if isinstance(value, str):
            return [value]
        case _ if isinstance(value, Mapping):
            return rows_of_columns(value)
        case _ if isinstance(value, list):
            return value
        case _:
            raise InvalidPrompt(
                f"`{form}` must be a string, a list of rows or an object of columns. "
                f"Given: {type(value).__name__}."
            )


def _rows_of_split(value: Any) -> list[object]:
    if not isinstance(value, Mapping):
        raise InvalidPrompt("`dataframe_split` must be an object with `columns` and `data`.")
    _refuse_unknown(value, ("columns", "data", "index"), inside="dataframe_split.")
    columns, data = value.get("columns"), value.get("data")
    if not (isinstance(columns, list) and all(isinstance(name, str) for name in columns)):
        raise InvalidPrompt("`dataframe_split.columns` must be a list of column names.")
    if not (isinstance(data, list) and all(isinstance(row, list) for row in data)):
        raise InvalidPrompt("`dataframe_split.data` must be a list of lists, one per row.")
    return [_cells(columns, cells, row) for row, cells in enumerate(data)]


def _cells(columns: Sequence[str], cells: Sequence[Any], row: int) -> dict[str, Any]:
    if len(set(columns)) != len(columns):
        raise InvalidPrompt(f"Column names must differ. Given: {_listed(columns)}.")
    if len(cells) != len(columns):
        raise InvalidPrompt(
            f"row {row}: one cell per column is needed: {len(columns)}. Given: {len(cells)}."
        )
    return dict(zip(columns, cells, strict=True))


def _params(value: Any) -> dict[str, Any]:
    """Return what the client set; null means the model's own default."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidParameter(
            f"`params` must be an object. Given: {type(value).__name__}.", param="params"
        )
    return {name: given for name, given in value.items() if given is not None}


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str], inside: str = "") -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        name = f"{inside}{unknown[0][:40]}"
        raise InvalidParameter(f"Unknown field `{name}`. Leave it out.", param=name)


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    shown = [name[:40] for name in list(names)[:8]]
    return ", ".join(shown) or "none"
