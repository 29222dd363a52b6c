import io
import json
import logging
from collections.abc import Iterator

import pytest

from mooring.observe.logs import RequestRecord, configure_logging, log_request

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
    answered.status = 200
    answered.count_tokens(3, 4, 2)
    log_request(answered)
    line = json.loads(lines.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line.pop("ms") >= 0
    assert line == {
        "level": "info", "logger": "mooring.access", "message": "request", "request_id": "r-1",
        "method": "POST", "path": "/v1/completions", "status": 200, "model": "demo/1@ab",
        "prompt_tokens": 3, "completion_tokens": 4, "cached_tokens": 2,
    }  # fmt: skip


def test_tokens_are_left_out_when_unknown(lines: io.StringIO) -> None:
    log_request(record())
    assert "prompt_tokens" not in json.loads(lines.getvalue())


def test_a_client_that_left_is_logged_as_499(lines: io.StringIO) -> None:
    left = record()
    left.status, left.client_left = 200, True
    log_request(left)
    assert json.loads(lines.getvalue())["status"] == 499


def test_every_event_is_one_line(lines: io.StringIO) -> None:
    strange = RequestRecord("r", "GET", "/a\r\n{}\x1b[31m\u2028", "m")
    log_request(strange)
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
    log_request(record())
    assert len(lines.getvalue().splitlines()) == 1


@pytest.mark.parametrize("path", ["/health", "/ready", "/ping"])
def test_probes_do_not_fill_the_log(lines: io.StringIO, path: str) -> None:
    record = RequestRecord("id", "GET", path, "demo/1@abc", status=200)
    log_request(record)
    assert lines.getvalue() == ""
    logging.getLogger("mooring").setLevel(logging.DEBUG)
    log_request(record)
    assert json.loads(lines.getvalue())["path"] == path
