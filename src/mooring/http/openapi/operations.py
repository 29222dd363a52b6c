"""Every route with what it takes and answers: a route that is missing here stops the server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mooring.http.openapi import answers, bodies
from mooring.http.openapi.fields import Schema
from mooring.settings import ServiceLimits

PARQUET = "application/vnd.apache.parquet"
JSON, CSV, EVENTS, PLAIN = "application/json", "text/csv", "text/event-stream", "text/plain"

# Beside what every route may answer: bodies that do not arrive, are too large or of a wrong type.
TAKING = (400, 404, 408, 413, 415, 429, 500, 503, 504)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route.

    `body` makes the schema of its JSON body, `answers` are schemas by media type, `errors` the
    statuses that it may fail with; `other_bodies` are media types of bodies that are not JSON.
    """

    summary: str
    answers: Mapping[str, Schema]
    body: Callable[[ServiceLimits], Schema] | None = None
    other_bodies: tuple[str, ...] = ()
    errors: tuple[int, ...] = (429, 500)
    error: Schema = field(default_factory=lambda: answers.OPENAI_ERROR)


_EVENTS: Mapping[str, Schema] = {EVENTS: answers.EVENT}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/v1/models"): Operation(
        "The names that clients may use.", {JSON: answers.MODELS}, errors=(429, 500, 503)
    ),
    ("GET", "/v1/models/{id}"): Operation(
        "One of them.", {JSON: answers.MODEL}, errors=(404, 429, 500, 503)
    ),
    ("POST", "/v1/chat/completions"): Operation(
        "Answer a conversation, as a whole or as a stream.",
        {JSON: answers.CHAT, **_EVENTS},
        bodies.chat_body,
        errors=TAKING,
    ),
    ("POST", "/v1/chat/completions/render"): Operation(
        "The exact prompt that such a body makes, and its tokens.",
        {JSON: answers.RENDERED},
        bodies.chat_body,
        errors=TAKING,
    ),
    ("POST", "/v1/completions"): Operation(
        "Go on with prompts, taken as they are.",
        {JSON: answers.COMPLETION, **_EVENTS},
        bodies.completion_body,
        errors=TAKING,
    ),
    ("POST", "/v1/responses"): Operation(
        "Answer input items, as a whole or as a stream; nothing is stored.",
        {JSON: answers.RESPONSE, **_EVENTS},
        bodies.response_body,
        errors=TAKING,
    ),
    ("POST", "/v1/decisions"): Operation(
        "Answer typed questions about an input with probabilities.",
        {JSON: answers.DECISION},
        bodies.decision_body,
        errors=TAKING,
    ),
    ("POST", "/tokenize"): Operation(
        "The tokens of a prompt, or of messages as they are answered.",
        {JSON: answers.TOKENIZED},
        bodies.tokenize_body,
        errors=TAKING,
    ),
    ("POST", "/detokenize"): Operation(
        "The text of tokens.", {JSON: answers.DETOKENIZED}, bodies.detokenize_body, errors=TAKING
    ),
    ("POST", "/invocations"): Operation(
        "MLflow's scoring protocol.",
        {JSON: answers.PREDICTIONS, **_EVENTS},
        bodies.invocation_body,
        (CSV, PARQUET),
        errors=TAKING,
        error=answers.MLFLOW_ERROR,
    ),
    ("GET", "/ping"): Operation(
        "Whether requests are taken.", {JSON: answers.STATUS}, errors=(503,), error=answers.STATUS
    ),
    ("GET", "/ready"): Operation(
        "Whether requests are taken.", {JSON: answers.STATUS}, errors=(503,), error=answers.STATUS
    ),
    ("GET", "/health"): Operation(
        "Whether the process answers at all.", {JSON: answers.STATUS}, errors=()
    ),
    ("GET", "/version"): Operation("Mooring's version.", {JSON: answers.VERSION}),
    ("GET", "/metrics"): Operation(
        "Metrics in Prometheus' format; where there are keys, for those that may read them.",
        {PLAIN: answers.TEXT},
    ),
    ("GET", "/openapi.json"): Operation("This document.", {JSON: answers.OPEN_OBJECT}),
}
