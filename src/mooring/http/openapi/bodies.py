"""The bodies that routes take, as JSON schemas."""

from typing import Any

from mooring.generation import MAX_TOP_LOGPROBS
from mooring.http.openapi.fields import Schema, body_schema, sampling_schemas
from mooring.protocol.messages import MAX_MESSAGES, ROLES
from mooring.protocol.openai.chat import CHAT_OFF, ChatBody
from mooring.protocol.openai.completions import COMPLETION_OFF, CompletionBody
from mooring.protocol.openai.fields import REQUEST_ID
from mooring.protocol.openai.responses import RESPONSE_OFF, ResponseBody
from mooring.settings import ServiceLimits

_TEXT_PART: Schema = {
    "type": "object",
    "properties": {
        "type": {"enum": ["text", "input_text", "output_text"]},
        "text": {"type": "string"},
    },
    "required": ["type", "text"],
}
_CONTENT: Schema = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": _TEXT_PART, "minItems": 1},
        {"type": "null"},
    ]
}
_MESSAGE: Schema = {
    "type": "object",
    "properties": {"role": {"enum": list(ROLES)}, "content": _CONTENT},
    "required": ["role"],
}
_IDS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_TOP: Schema = {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_TOP_LOGPROBS}
_TOOL_CHOICE: Schema = {
    "anyOf": [
        {"enum": ["none", "auto", "required", None]},
        {"type": "object", "required": ["type"], "properties": {"type": {"const": "function"}}},
    ]
}
_ITEM: Schema = {
    "type": "object",
    "properties": {"type": {"enum": ["message", "function_call", "function_call_output"]}},
}
_STRUCTURE: dict[str, Schema] = {
    "response_format": {
        "type": ["object", "null"],
        "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}},
        "required": ["type"],
    },
    "structured_outputs": {"type": ["object", "null"], "minProperties": 1},
}
_OF_VLLM: dict[str, Schema] = {
    "truncate_prompt_tokens": {
        "anyOf": [{"const": -1}, {"type": "integer", "minimum": 1}, {"type": "null"}]
    },
    "prompt_logprobs": _TOP,
    "request_id": {"type": ["string", "null"], "pattern": f"^{REQUEST_ID}$"},
    "cache_salt": {"type": ["string", "null"], "minLength": 1},
}
_STREAM: Schema = {"type": ["boolean", "null"]}
_TABLES = ("inputs", "instances", "dataframe_split", "dataframe_records")


def chat_body(limits: ServiceLimits) -> Schema:
    """Return the body of `/v1/chat/completions`."""
    known = _sampling(limits) | {
        "messages": _messages(limits),
        "tool_choice": _TOOL_CHOICE,
        "functions": {"enum": [None, []]},
        "function_call": {"enum": [None, "none"]},
        **_STRUCTURE,
        **_OF_VLLM,
    }
    known["max_completion_tokens"] = known["max_tokens"]
    known["top_logprobs"] = _TOP
    return body_schema(ChatBody, known, CHAT_OFF)


def completion_body(limits: ServiceLimits) -> Schema:
    """Return the body of `/v1/completions`."""
    text = {"type": "string", "minLength": 1}
    texts = {"type": "array", "items": text, "minItems": 1}
    several = {"type": "array", "items": _IDS, "minItems": 1}
    known = _sampling(limits) | {"prompt": {"anyOf": [text, texts, _IDS, several]}}
    known["max_tokens"] = {**known["max_tokens"], "minimum": 0}
    known["best_of"] = known["n"]
    known["logprobs"] = _TOP
    known |= _STRUCTURE | _OF_VLLM
    return body_schema(CompletionBody, known, COMPLETION_OFF)


def response_body(limits: ServiceLimits) -> Schema:
    """Return the body of `/v1/responses`."""
    items = {"type": "array", "items": _ITEM, "minItems": 1, "maxItems": MAX_MESSAGES}
    known = _sampling(limits) | {
        "input": {"anyOf": [{"type": "string", "minLength": 1}, items]},
        "tool_choice": _TOOL_CHOICE,
        "max_output_tokens": {"type": ["integer", "null"], "minimum": 1},
    }
    return body_schema(ResponseBody, known, RESPONSE_OFF)


def decision_body(limits: ServiceLimits) -> Schema:
    """Return the body of `/v1/decisions`."""
    text_or_items = {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1}]}
    questions = {"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": 400}
    named = {"type": ["string", "null"]}
    return {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "input": text_or_items,
            "questions": questions,
            "prompt_cache_key": named,
            "prompt_cache_options": {"type": ["object", "null"]},
            "safety_identifier": named,
        },
        "required": ["model", "input", "questions"],
        "additionalProperties": False,
    }


def tokenize_body(limits: ServiceLimits) -> Schema:
    """Return the body of `/tokenize`."""
    flag = {"type": ["boolean", "null"]}
    return {
        "type": "object",
        "properties": {
            "model": {"type": ["string", "null"]},
            "prompt": {"type": ["string", "null"]},
            "messages": {"anyOf": [_messages(limits), {"type": "null"}]},
            "tools": {"type": ["array", "null"], "items": {"type": "object"}},
            "add_generation_prompt": flag,
            "continue_final_message": flag,
            "chat_template_kwargs": {"type": ["object", "null"]},
            "add_special_tokens": flag,
            "return_token_strs": flag,
        },
        "additionalProperties": False,
    }


def detokenize_body(limits: ServiceLimits) -> Schema:
    """Return the body of `/detokenize`."""
    tokens = {"type": "array", "items": {"type": "integer", "minimum": 0}}
    return {
        "type": "object",
        "properties": {"model": {"type": ["string", "null"]}, "tokens": tokens},
        "required": ["tokens"],
        "additionalProperties": False,
    }


def invocation_body(limits: ServiceLimits) -> Schema:
    """Return the JSON body of `/invocations`: tables with `params`, or MLflow's unified form."""
    sampling = _sampling(limits)
    params = {"type": ["object", "null"], "properties": sampling, "additionalProperties": False}
    tables = [
        {
            "type": "object",
            "properties": {name: _table(name), "params": params, "stream": _STREAM},
            "required": [name],
            "additionalProperties": False,
        }
        for name in _TABLES
    ]
    prompts: dict[str, Schema] = {"prompt": {}, "messages": {}}
    unified: dict[str, Any] = {
        "type": "object",
        "properties": {**prompts, **sampling, "stream": _STREAM},
        "anyOf": [{"required": ["prompt"]}, {"required": ["messages"]}],
        "additionalProperties": False,
    }
    return {"anyOf": [*tables, unified]}


def _table(name: str) -> Schema:
    match name:
        case "dataframe_split":
            columns = {"type": "array", "items": {"type": "string"}}
            data = {"type": "array", "items": {"type": "array"}}
            return {
                "type": "object",
                "properties": {"columns": columns, "data": data, "index": {}},
                "required": ["columns", "data"],
                "additionalProperties": False,
            }
        case "dataframe_records":
            return {"type": "array", "items": {"type": "object"}}
        case _:
            return {"type": ["string", "array", "object"]}


def _messages(limits: ServiceLimits) -> Schema:
    most = min(limits.max_messages, MAX_MESSAGES)
    return {"type": "array", "items": _MESSAGE, "minItems": 1, "maxItems": most}


def _sampling(limits: ServiceLimits) -> dict[str, Schema]:
    schemas = sampling_schemas()
    schemas["n"] = {**schemas["n"], "maximum": limits.max_n}
    return schemas
