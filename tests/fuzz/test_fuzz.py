"""Nothing that a client sends may break the server: no 5xx but a full one, no hang, no harm after.

How many cases there are say `FUZZ_BODIES` and `FUZZ_BYTES`: `make fuzz` asks for many. What fails
is written to `cases/`, where it stays as a test.
"""

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.faults.attacked import TEXT, Server, echo_server, status_of, unharmed
from tests.fuzz.bodies import RAW, mutated

CASES = Path(__file__).parent / "cases"
SEED = int(os.environ.get("FUZZ_SEED", "1"))
# Most bytes are no whole request: so many connections wait for their end together.
AT_ONCE = 20
LAST_OF_RESPONSES = re.compile(r"event: (response\.(completed|incomplete|failed)|error)\ndata: ")
COUNTS = int(os.environ.get("FUZZ_BODIES", "300")), int(os.environ.get("FUZZ_BYTES", "200"))

many = settings(
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve for all cases; whole bodies and heads must come within half a second."""
    log = tmp_path_factory.mktemp("fuzz") / "log"
    options = ("--body-seconds", 0.5, "--header-seconds", 0.5)
    with echo_server(log, *options) as running:
        with unharmed(running):
            yield running
        assert answers(running)


def answers(server: Server) -> bool:
    """Return whether the server still answers a plain question well."""
    answer = server.post("/v1/completions", TEXT).json()
    return bool(answer["choices"][0]["text"] == "hi")


def check_body(server: Server, path: str, content: bytes) -> None:
    response = server.post(path, content)
    if response.status_code == 503:
        assert int(response.headers["retry-after"]) >= 1
    else:
        assert response.status_code < 500, response.text
    assert response.headers["x-request-id"]
    check_text(response)


def check_text(response: httpx.Response) -> None:
    """Every answer is whole, in its form, and tells nothing of what is inside."""
    assert "Traceback" not in response.text
    assert "site-packages" not in response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        *_, last, end = response.text.split("\n\n")
        assert end == ""
        assert last == "data: [DONE]" or LAST_OF_RESPONSES.match(last)
    elif response.status_code >= 400:
        assert set(response.json()) in ({"error"}, {"error_code", "message"})


def check_bytes(server: Server, sent: bytes) -> None:
    with server.connect() as connection:
        check_answer(answer_to(connection, sent))


def answer_to(connection: socket.socket, sent: bytes) -> bytes:
    """Return the first answer that is not 100, or all that comes before the server closes."""
    answer = b""
    with suppress(ConnectionError):
        connection.sendall(sent)
        while not is_whole(answer) and (part := connection.recv(65536)):
            answer += part
            if answer.startswith(b"HTTP/1.1 100"):
                answer = answer.partition(b"\r\n\r\n")[2]
    return answer


def is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(end) and (length is None or len(body) >= int(length[1]))


def check_answer(answer: bytes) -> None:
    assert status_of(answer) < 500 or b"retry-after" in answer
    assert b"Traceback" not in answer


def keep(case: bytes) -> None:
    """Write a case that failed where `test_what_failed_before` finds it."""
    (CASES / f"{hashlib.sha256(case).hexdigest()[:12]}.bin").write_bytes(case)


@seed(SEED)
@settings(many, max_examples=COUNTS[0])
@given(case=mutated())
def test_bodies(server: Server, case: tuple[str, bytes]) -> None:
    path, content = case
    try:
        check_body(server, path, content)
    except BaseException:
        keep(path.encode() + b"\n" + content)
        raise


@seed(SEED)
@settings(many, max_examples=COUNTS[1] // AT_ONCE)
@given(cases=st.lists(RAW, min_size=AT_ONCE, max_size=AT_ONCE))
def test_bytes(server: Server, cases: list[bytes]) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in cases]
        for connection, sent in zip(connections, cases, strict=True):
            with suppress(ConnectionError):
                connection.sendall(sent)
        for connection, sent in zip(connections, cases, strict=True):
            try:
                check_answer(answer_to(connection, b""))
            except BaseException:
                keep(b"\n" + sent)
                raise


@pytest.mark.parametrize("file", sorted(CASES.glob("*.bin")), ids=lambda file: str(file.stem))
def test_what_failed_before(server: Server, file: Path) -> None:
    path, _, content = file.read_bytes().partition(b"\n")
    if path:
        check_body(server, path.decode(), content)
    else:
        check_bytes(server, content)


def test_no_line_of_the_log_lacks_its_form(server: Server) -> None:
    assert answers(server)
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert lines
    requests = [line for line in lines if line["logger"] == "mooring.access"]
    assert all(line["request_id"] for line in requests)
    assert [line for line in lines if line["level"] in ("error", "critical")] == []
