"""Sampling parameters: their one table of names, types and bounds, and the checked value object."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

from mooring.errors import InvalidParameter

FieldKind = Literal["int", "float", "bool", "strings", "token_ids", "token_bias"]

MAX_INT = 2**31 - 1
MAX_STOP_STRINGS, MAX_BAD_WORDS, MAX_STRING_CHARACTERS = 4, 64, 64
MAX_BIASED_TOKENS = 300
MAX_STOP_TOKENS, MAX_ALLOWED_TOKENS = 64, 1024
MAX_COMPLETIONS = 8
GREEDY_BELOW = 1e-5


@dataclass(frozen=True, slots=True)
class SamplingField:
    """Name, type, bounds (both inclusive unless `low_open`) and meaning of one parameter.

    Of a list, `high` is how many it takes at most.
    """

    name: str
    kind: FieldKind
    doc: str
    low: float = 0
    high: float = 0
    low_open: bool = False
    optional: bool = False


SAMPLING_FIELDS: tuple[SamplingField, ...] = (
    SamplingField(
        "max_tokens", "int", "Most tokens to generate; capped by the context.", 1, MAX_INT,
        optional=True,
    ),
    SamplingField("min_tokens", "int", "No end and no stop before so many tokens.", 0, MAX_INT),
    SamplingField("temperature", "float", "Randomness; 0 is greedy.", 0, 2),
    SamplingField("top_p", "float", "Keep the smallest set with this probability.", 0, 1, True),
    SamplingField("top_k", "int", "Keep the k most likely tokens; 0 or -1 keeps all.", -1, MAX_INT),
    SamplingField("min_p", "float", "Drop tokens below this share of the most likely.", 0, 1),
    SamplingField(
        "repetition_penalty", "float", "Divide the score of tokens seen in prompt or answer.",
        0, 10, True,
    ),
    SamplingField("presence_penalty", "float", "Subtract once from tokens already said.", -2, 2),
    SamplingField("frequency_penalty", "float", "Subtract per time a token was said.", -2, 2),
    SamplingField(
        "seed", "int", "Makes sampling repeatable for this request.", -(2**63), 2**63 - 1,
        optional=True,
    ),
    SamplingField(
        "stop", "strings", "End before the first of these strings (at most 4).",
        high=MAX_STOP_STRINGS,
    ),
    SamplingField(
        "stop_token_ids", "token_ids", "End before the first of these token ids.",
        high=MAX_STOP_TOKENS,
    ),
    SamplingField(
        "allowed_token_ids", "token_ids", "Choose among these token ids only; empty: among all.",
        high=MAX_ALLOWED_TOKENS,
    ),
    SamplingField(
        "bad_words", "strings", "Never generate these words (at most 64).", high=MAX_BAD_WORDS
    ),
    SamplingField(
        "include_stop_str_in_output", "bool", "Keep the stop string or token in the answer."
    ),
    SamplingField("skip_special_tokens", "bool", "Leave special tokens out of the text."),
    SamplingField("logit_bias", "token_bias", "Add to the scores of token ids.", -100, 100),
    SamplingField("ignore_eos", "bool", "Go on past the end token."),
    SamplingField("n", "int", "Completions per prompt.", 1, MAX_COMPLETIONS),
)  # fmt: skip

_FIELDS = {field.name: field for field in SAMPLING_FIELDS}


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are chosen for one request; made by `update`, which checks every bound."""

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    allowed_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    logit_bias: tuple[tuple[int, float], ...] = ()
    ignore_eos: bool = False
    n: int = 1

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature < GREEDY_BELOW

    @property
    def repeatable(self) -> bool:
        """Whether the same prompt gives the same tokens again."""
        return self.greedy or self.top_k == 1 or self.seed is not None

    def update(self, values: Mapping[str, Any]) -> Self:
        """Return a copy with `values` set; raise `InvalidParameter` naming the first bad one."""
        return replace(
            self, **{name: check_parameter(name, value) for name, value in values.items()}
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, `logit_bias` as an object of token id to bias."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["stop"] = list(self.stop)
        values["stop_token_ids"] = list(self.stop_token_ids)
        values["allowed_token_ids"] = list(self.allowed_token_ids)
        values["bad_words"] = list(self.bad_words)
        values["logit_bias"] = {str(token): bias for token, bias in self.logit_bias}
        return values


def check_parameter(name: str, value: Any) -> Any:
    """Return `value` in its exact type, or raise `InvalidParameter` with rule, limit and value."""
    field = _FIELDS.get(name)
    if field is None:
        raise InvalidParameter(
            f"Unknown parameter `{_shown(name)}`. Known: {', '.join(_FIELDS)}.", param=name
        )
    if value is None and field.optional:
        return None
    match field.kind:
        case "int" | "float":
            return _number(field, value)
        case "bool":
            return _boolean(field, value)
        case "strings":
            return _strings(field, value)
        case "token_ids":
            return _token_ids(field, value)
        case "token_bias":
            return _token_bias(field, value)


def _number(field: SamplingField, value: Any) -> int | float:
    whole = field.kind == "int"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise _wrong_type(field, "a whole number" if whole else "a number", value)
    too_low = value <= field.low if field.low_open else value < field.low
    if (isinstance(value, float) and not math.isfinite(value)) or too_low or value > field.high:
        low = f"> {field.low}" if field.low_open else f">= {field.low}"
        raise InvalidParameter(
            f"`{field.name}` must be {low} and <= {field.high}. Given: {_shown(value)}.",
            param=field.name,
        )
    # What keeps all tokens has two names, as in vLLM.
    return max(value, 0) if field.name == "top_k" else value if whole else float(value)


def _boolean(field: SamplingField, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(field, "true or false", value)
    return value


def _strings(field: SamplingField, value: Any) -> tuple[str, ...]:
    strings = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(strings, list | tuple) or not all(isinstance(s, str) for s in strings):
        raise _wrong_type(field, "a string or a list of strings", value)
    if len(strings) > field.high:
        raise InvalidParameter(
            f"`{field.name}` takes at most {field.high} strings. Given: {len(strings)}.",
            param=field.name,
        )
    for string in strings:
        if not 1 <= len(string) <= MAX_STRING_CHARACTERS:
            raise InvalidParameter(
                f"Each `{field.name}` string must have 1 to {MAX_STRING_CHARACTERS} characters. "
                f"Given: {len(string)}.",
                param=field.name,
            )
    return tuple(strings)


def _token_ids(field: SamplingField, value: Any) -> tuple[int, ...]:
    ids = [] if value is None else value
    if not isinstance(ids, list | tuple):
        raise _wrong_type(field, "a list of token ids", value)
    if len(ids) > field.high:
        raise InvalidParameter(
            f"`{field.name}` takes at most {field.high} token ids. Given: {len(ids)}.",
            param=field.name,
        )
    for token in ids:
        if type(token) is not int or not 0 <= token <= MAX_INT:
            raise InvalidParameter(
                f"`{field.name}` must hold token ids >= 0. Given: {_shown(token)}.",
                param=field.name,
            )
    return tuple(ids)


def _token_bias(field: SamplingField, value: Any) -> tuple[tuple[int, float], ...]:
    if isinstance(value, str):
        value = _json_object(field, value)
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise _wrong_type(field, "an object of token id to bias", value)
    if len(value) > MAX_BIASED_TOKENS:
        raise InvalidParameter(
            f"`logit_bias` takes at most {MAX_BIASED_TOKENS} tokens. Given: {len(value)}.",
            param="logit_bias",
        )
    return tuple((_token_id(token), float(_number(field, bias))) for token, bias in value.items())


def _json_object(field: SamplingField, text: str) -> Any:
    try:
        return json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        raise _wrong_type(field, "a JSON object of token id to bias", text) from None


def _token_id(token: Any) -> int:
    if isinstance(token, int) and not isinstance(token, bool) and 0 <= token <= MAX_INT:
        return token
    if (
        isinstance(token, str)
        and token.isascii()
        and token.isdigit()
        and int(token[:11]) <= MAX_INT
    ):
        return int(token)
    raise InvalidParameter(
        f"`logit_bias` keys must be token ids >= 0. Given: {_shown(token)}.", param="logit_bias"
    )


def _wrong_type(field: SamplingField, expected: str, value: Any) -> InvalidParameter:
    return InvalidParameter(
        f"`{field.name}` must be {expected}. Given: {_shown(value)} ({type(value).__name__}).",
        param=field.name,
    )


def _shown(value: Any) -> str:
    """Show at most 40 characters of a value, so that an error never carries a whole prompt."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
