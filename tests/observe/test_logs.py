import io
import json
import logging
from collections.abc import Iterator

import pytest

from mooring.generation import SamplingParams
from mooring.observe.logs import AccessLog, configure_logging
from mooring.observe.record import RequestRecord, SequenceRecord, Unmetered

NAMES = ("mooring", "uvicorn")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Collect what is logged, and leave the loggers as they were."""
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(one.handlers, one.level, one.propagate) for one in loggers]
    stream = io.StringIO()
    configure_logging(stream)
    yield stream
    for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


def record() -> RequestRecord:
    return RequestRecord("r-1", "POST", "/v1/completions", "demo/1@ab")


def test_an_access_line_says_what_is_known(lines: io.StringIO) -> None:
    answered = record()
    answered.status, answered.route, answered.key = 200, "/v1/completions", "team-a"
    answered.error, answered.stream = "engine_stopped", True
    sequence = SequenceRecord(3, SamplingParams(), Unmetered(), answered.began)
    sequence.grow(answered.began + 0.5, 4)
    sequence.cached_tokens = 2
    sequence.finish("error")
    answered.sequences.append(sequence)
    answered.ended = answered.began + 1.25
    AccessLog().answered(answered)
    line = json.loads(lines.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info", "logger": "mooring.access", "message": "request", "request_id": "r-1",
        "method": "POST", "path": "/v1/completions", "route": "/v1/completions", "status": 200,
        "error": "engine_stopped", "ms": 1250.0, "first_token_ms": 500.0, "model": "demo/1@ab",
        "key": "team-a", "stream": True, "prompt_tokens": 3, "cached_tokens": 2,
        "completion_tokens": 4, "finish_reasons": ["error"],
    }  # fmt: skip


def test_tokens_are_left_out_when_unknown(lines: io.StringIO) -> None:
    AccessLog().answered(record())
    assert "prompt_tokens" not in json.loads(lines.getvalue())


def test_a_client_that_left_is_logged_as_499(lines: io.StringIO) -> None:
    left = record()
    left.status, left.client_left = 200, True
    AccessLog().answered(left)
    assert json.loads(lines.getvalue())["status"] == 499


def test_a_long_path_is_cut(lines: io.StringIO) -> None:
    AccessLog().answered(RequestRecord("r", "GET", "/" + "a" * 70_000, "m"))
    assert len(json.loads(lines.getvalue())["path"]) == 200


def test_every_event_is_one_line(lines: io.StringIO) -> None:
    strange = RequestRecord("r", "GET", "/a\r\n{}\x1b[31m\u2028", "m")
    AccessLog().answered(strange)
    assert len(lines.getvalue().splitlines()) == 1
    assert "\x1b" not in lines.getvalue()
    assert json.loads(lines.getvalue())["path"] == "/a\r\n{}\x1b[31m\u2028"


def test_a_traceback_is_part_of_its_line(lines: io.StringIO) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("mooring.http").exception("It %s.", "failed")
    (line,) = map(json.loads, lines.getvalue().splitlines())
    assert (line["level"], line["message"]) == ("error", "It failed.")
    assert line["traceback"].endswith("ValueError: broken")


def test_the_web_server_only_warns(lines: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").info("starting")
    logging.getLogger("uvicorn.error").warning("odd")
    (line,) = map(json.loads, lines.getvalue().splitlines())
    assert (line["logger"], line["message"]) == ("uvicorn.error", "odd")


def test_configuring_twice_does_not_double_lines(lines: io.StringIO) -> None:
    configure_logging(lines)
    AccessLog().answered(record())
    assert len(lines.getvalue().splitlines()) == 1


@pytest.mark.parametrize("path", ["/health", "/ready", "/ping", "/metrics"])
def test_probes_do_not_fill_the_log(lines: io.StringIO, path: str) -> None:
    record = RequestRecord("id", "GET", path, "demo/1@abc", status=200)
    AccessLog().answered(record)
    assert lines.getvalue() == ""
    logging.getLogger("mooring").setLevel(logging.DEBUG)
    AccessLog().answered(record)
    assert json.loads(lines.getvalue())["path"] == path
