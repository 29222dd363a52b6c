"""One JSON line per event on stderr: the server's log, and one access line per request."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from mooring.observe.record import RequestRecord

_access = logging.getLogger("mooring.access")

# Probes come every few seconds for ever: their lines would hide the others.
_PROBES = frozenset({"/health", "/ready", "/ping", "/metrics"})
_PATH_LENGTH = 200


class AccessLog:
    """Writes one line per request that is over.

    The status is 499 where the client left. Lines of health and readiness probes, and of scrapes,
    are written at debug level only.
    """

    def answered(self, record: RequestRecord) -> None:
        """Write the line of a request."""
        level = logging.DEBUG if record.path in _PROBES else logging.INFO
        if _access.isEnabledFor(level):
            _access.log(level, "request", extra={"event": _line_of(record)})


def _line_of(record: RequestRecord) -> dict[str, Any]:
    first = record.first_token_seconds
    return {
        "request_id": record.request_id,
        "method": record.method,
        "path": record.path[:_PATH_LENGTH],
        "route": record.route or None,
        "status": record.shown_status,
        "error": record.error,
        "ms": _milliseconds(record.seconds),
        "first_token_ms": None if first is None else _milliseconds(first),
        "model": record.model,
        "key": record.key,
        "stream": record.stream or None,
        "prompt_tokens": record.prompt_tokens,
        "cached_tokens": record.cached_tokens,
        "completion_tokens": record.completion_tokens,
        "finish_reasons": record.ends or None,
    }


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 1)


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
