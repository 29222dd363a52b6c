"""What routes answer with, as JSON schemas; a client may rely on what is required here."""

from typing import Any

from mooring.http.openapi.fields import Schema

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer", "minimum": 0}
OPEN_OBJECT: Schema = {"type": "object"}


def holding(**properties: Any) -> Schema:
    """Return an object that has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def list_of(item: Schema) -> Schema:
    """Return a list."""
    return {"type": "array", "items": item}


_USAGE = holding(prompt_tokens=NUMBER, completion_tokens=NUMBER, total_tokens=NUMBER)
_HEAD: dict[str, Schema] = {
    "id": TEXT,
    "created": NUMBER,
    "model": TEXT,
    "system_fingerprint": TEXT,
}
_REASON: Schema = {"enum": ["stop", "length", "tool_calls"]}
_SAID = holding(
    role={"const": "assistant"}, content={"type": ["string", "null"]}, refusal={"type": "null"}
)

CHAT = holding(
    **_HEAD,
    object={"const": "chat.completion"},
    choices=list_of(holding(index=NUMBER, message=_SAID, logprobs={}, finish_reason=_REASON)),
    usage=_USAGE,
)
COMPLETION = holding(
    **_HEAD,
    object={"const": "text_completion"},
    choices=list_of(holding(index=NUMBER, text=TEXT, logprobs={}, finish_reason=_REASON)),
    usage=_USAGE,
)
RESPONSE = holding(
    id=TEXT,
    object={"const": "response"},
    status={"enum": ["completed", "incomplete"]},
    output=list_of(holding(type={"enum": ["message", "function_call", "reasoning"]}, id=TEXT)),
    usage=holding(input_tokens=NUMBER, output_tokens=NUMBER, total_tokens=NUMBER),
)
_TOKENS = {"count": NUMBER, "max_model_len": NUMBER, "tokens": list_of(NUMBER)}
RENDERED = holding(prompt=TEXT, **_TOKENS)
TOKENIZED = holding(**_TOKENS, token_strs={"type": ["array", "null"]})
DETOKENIZED = holding(prompt=TEXT)
DECISION = holding(model=TEXT, answers=list_of(OPEN_OBJECT), usage=OPEN_OBJECT)
# What each server-sent event has, as OpenAPI before 3.2 describes streams.
EVENT = holding(data=TEXT)
MODEL = holding(
    id=TEXT, object={"const": "model"}, created=NUMBER, owned_by=TEXT, max_model_len=NUMBER
)
MODELS = holding(object={"const": "list"}, data=list_of(MODEL))
_CANDIDATES = holding(candidates=list_of(TEXT))
PREDICTIONS: Schema = {"anyOf": [holding(predictions=_CANDIDATES), _CANDIDATES]}
STATUS = holding(status=TEXT)
VERSION = holding(version=TEXT)

OPENAI_ERROR = holding(
    error=holding(message=TEXT, type=TEXT, param={"type": ["string", "null"]}, code=TEXT)
)
MLFLOW_ERROR = holding(error_code=TEXT, message=TEXT)
