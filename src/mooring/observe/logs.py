"""One JSON line per event on stderr: the server's log, and one access line per request."""

import json
import logging
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TextIO

_access = logging.getLogger("mooring.access")

# Probes come every few seconds for ever: their lines would hide the others.
_PROBES = frozenset({"/health", "/ready", "/ping"})


@dataclass(slots=True)
class RequestRecord:
    """What is known about one request, filled in while it is answered; never holds prompts."""

    request_id: str
    method: str
    path: str
    model: str
    key: str | None = None
    status: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    client_left: bool = False
    started: float = field(default_factory=time.monotonic)

    def count_tokens(self, prompt: int, completion: int, cached: int) -> None:
        """Note the tokens that the request used, and how many of the prompt's were cached."""
        self.prompt_tokens = prompt
        self.completion_tokens = completion
        self.cached_tokens = cached


def log_request(record: RequestRecord) -> None:
    """Write the access line of an answered request; its status is 499 if the client left.

    Lines of health and readiness probes are written at debug level only.
    """
    _access.log(
        logging.DEBUG if record.path in _PROBES else logging.INFO,
        "request",
        extra={
            "event": {
                "request_id": record.request_id,
                "method": record.method,
                "path": record.path,
                "status": 499 if record.client_left else record.status,
                "ms": round(1000 * (time.monotonic() - record.started), 1),
                "model": record.model,
                "key": record.key,
                "prompt_tokens": record.prompt_tokens,
                "completion_tokens": record.completion_tokens,
                "cached_tokens": record.cached_tokens,
            }
        },
    )


def configure_logging(stream: TextIO | None = None) -> None:
    """Send Mooring's log, and the web server's warnings, to stderr as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, level in (("mooring", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON; control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {k: v for k, v in getattr(record, "event", {}).items() if v is not None}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
