"""Requests that break a rule, by the bytes: each gets its status and words, and nobody notices."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.engines.process.children import wait_for
from tests.faults.attacked import (
    CHAT,
    JSON,
    TEXT,
    Bystander,
    Server,
    echo_server,
    status_of,
    unharmed,
)

CHATS, TEXTS, ROWS = "/v1/chat/completions", "/v1/completions", "/invocations"
HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve for the whole file while a bystander streams and must not notice anything."""
    log = tmp_path_factory.mktemp("attacks") / "log"
    options = ("--step", 0.005, "--body-seconds", 1, "--header-seconds", 1)
    with echo_server(log, *options) as server, Bystander(server):
        yield server
        assert '"level": "error"' not in server.log


@pytest.fixture
def server(attacked: Server) -> Iterator[Server]:
    """The server of the file, which has all that was taken back after each test."""
    with unharmed(attacked):
        yield attacked


def chat(**fields: Any) -> dict[str, Any]:
    return {**CHAT, "max_tokens": 4, **fields}


def text(**fields: Any) -> dict[str, Any]:
    return {**TEXT, "max_tokens": 4, **fields}


def user(*contents: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content} for content in contents]


def part(**fields: Any) -> list[dict[str, Any]]:
    return user([{"type": "text", "text": "what is this?"}, fields])


DEEP = b"[" * 100_000
DIGITS = b"1" * 5000
IMAGE = {"url": "http://169.254.169.254/latest"}

# fault, route, body, status, code of OpenAI or MLflow, field at fault
REFUSED: list[tuple[int, str, Any, int, str, str | None]] = [
    (2, ROWS, b"null", 400, "BAD_REQUEST", None),
    (2, ROWS, b"", 400, "BAD_REQUEST", None),
    (2, ROWS, b'{"inputs": "sec', 400, "BAD_REQUEST", None),
    (2, CHATS, b'{"model": "sec', 400, "invalid_json", None),
    (3, TEXTS, b'{"model":"echo","prompt":' + DEEP, 400, "invalid_json", None),
    (3, ROWS, b'{"inputs":' + DEEP, 400, "BAD_REQUEST", None),
    (3, TEXTS, b'{"model":"echo","prompt":"a","seed":' + DIGITS + b"}", 400, "invalid_json", None),
    (3, ROWS, b'{"inputs":"a","params":{"seed":' + DIGITS + b"}}", 400, "BAD_REQUEST", None),
    (4, TEXTS, b'{"model":"echo","prompt":"\xff\xfe"}', 400, "invalid_json", None),
    (4, ROWS, b'{"inputs":"\xff\xfe"}', 400, "BAD_REQUEST", None),
    (4, ROWS, b'\xef\xbb\xbf{"inputs":"a"}', 400, "BAD_REQUEST", None),
    (4, ROWS, b'{"inputs":"\\ud800"}', 400, "BAD_REQUEST", None),
    (5, TEXTS, text(guided_json={}), 400, "invalid_parameter", "guided_json"),
    (6, TEXTS, b'{"model":"echo","prompt":"a","logit_bias":{"5":NaN}}', 400,
     "invalid_parameter", "logit_bias"),
    (6, ROWS, b'{"inputs":"a","params":{"temperature":Infinity}}', 400,
     "INVALID_PARAMETER_VALUE", None),
    (7, CHATS, chat(messages=user("a", "b", 5)), 400, "invalid_prompt", "messages[2].content"),
    (7, TEXTS, text(max_tokens="5"), 400, "invalid_parameter", "max_tokens"),
    (7, TEXTS, text(max_tokens=True), 400, "invalid_parameter", "max_tokens"),
    (14, TEXTS, text(max_tokens=-1), 400, "invalid_parameter", "max_tokens"),
    (14, TEXTS, text(max_tokens=4097), 400, "invalid_parameter", "max_tokens"),
    (14, ROWS, {"inputs": "a", "params": {"max_tokens": 2**63}}, 400,
     "INVALID_PARAMETER_VALUE", None),
    (15, ROWS, {"inputs": "a", "params": {"n": 10**9}}, 400, "INVALID_PARAMETER_VALUE", None),
    (16, TEXTS, text(min_p=-0.1), 400, "invalid_parameter", "min_p"),
    (17, TEXTS, text(stop=["a"] * 10_000), 400, "invalid_parameter", "stop"),
    (17, TEXTS, text(stop="x" * 900_000), 400, "invalid_parameter", "stop"),
    (17, ROWS, {"inputs": "a", "params": {"stop": [""]}}, 400, "INVALID_PARAMETER_VALUE", None),
    (18, TEXTS, text(logit_bias={str(n): 1 for n in range(301)}), 400,
     "invalid_parameter", "logit_bias"),
    (18, TEXTS, text(logit_bias={str(n): 1 for n in range(10**6)}), 413, "body_too_large", None),
    (18, TEXTS, text(logit_bias={"100000": 1}), 400, "invalid_parameter", "logit_bias"),
    (20, CHATS, chat(messages=part(type="image_url", image_url=IMAGE)), 400,
     "invalid_prompt", "messages[0].content[1]"),
    (20, CHATS, chat(messages=part(type="file", file={"file_id": "a"})), 400,
     "invalid_prompt", "messages[0].content[1]"),
    (20, CHATS, chat(messages=part(type="input_audio", input_audio={"data": ""})), 400,
     "invalid_prompt", "messages[0].content[1]"),
    (21, CHATS, chat(chat_template="{{ 1 }}"), 400, "unsupported_parameter", "chat_template"),
    (21, CHATS, chat(__class__="x"), 400, "invalid_parameter", "__class__"),
    (23, TEXTS, text(prompt="a" * 900_000), 400, "context_length_exceeded", None),
    (23, CHATS, chat(messages=[]), 400, "invalid_prompt", "messages"),
    (23, TEXTS, text(prompt=""), 400, "invalid_prompt", "prompt"),
    (25, CHATS, chat(model="other"), 404, "model_not_found", "model"),
    (27, ROWS, {"inputs": ["a"] * 10**5}, 400, "INVALID_PARAMETER_VALUE", None),
    (27, ROWS, {"inputs": {"prompt": ["a", "b"], "messages": ["c"]}}, 400,
     "INVALID_PARAMETER_VALUE", None),
    (27, ROWS, {"dataframe_split": {"columns": ["question"], "data": [["a"]]}}, 400,
     "INVALID_PARAMETER_VALUE", None),
    (27, ROWS, b'{"dataframe_split":{"columns":["prompt"],"data":[["a"],[NaN]]}}', 400,
     "INVALID_PARAMETER_VALUE", None),
    (27, ROWS, {"inputs": ["a"], "instances": ["a"]}, 400, "INVALID_PARAMETER_VALUE", None),
    (27, ROWS, {"inputs": ["good", "", "good"]}, 400, "INVALID_PARAMETER_VALUE", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "path", "body", "status", "code", "param"),
    REFUSED,
    ids=[f"{fault}-{number}" for number, (fault, *_) in enumerate(REFUSED)],
)
def test_what_breaks_a_rule_is_refused_in_the_words_of_its_protocol(
    attacked: Server, fault: int, path: str, body: Any, status: int, code: str, param: str | None
) -> None:
    response = attacked.post(path, body)
    assert response.status_code == status, response.text
    for hidden in ("Traceback", "site-packages", "169.254", '"sec'):
        assert hidden not in response.text
    assert len(response.text) < 1000
    if path == ROWS:
        assert set(response.json()) == {"error_code", "message"}
        assert response.json()["error_code"] == code
    else:
        error = response.json()["error"]
        assert (error["code"], error["param"]) == (code, param)


def test_nothing_of_all_that_was_kept(server: Server) -> None:
    for _, path, body, status, *_ in REFUSED[::4]:
        assert server.post(path, body).status_code == status


@pytest.mark.parametrize("path", [CHATS, TEXTS, ROWS])
@pytest.mark.parametrize(
    "headers",
    [{"content-type": "text/plain"}, {"content-encoding": "gzip"}, {"content-type": ""}],
)
def test_other_types_and_encodings_are_refused(
    server: Server, path: str, headers: dict[str, str]
) -> None:
    assert server.post(path, b"\x1f\x8b" + b"\0" * 1000, **headers).status_code == 415


def test_of_two_values_of_one_field_the_last_counts(server: Server) -> None:
    body = b'{"model":"echo","prompt":"first","prompt":"last"}'
    assert server.post(TEXTS, body).json()["choices"][0]["text"] == "last"


@pytest.mark.parametrize("path", [TEXTS, ROWS])
def test_a_zero_byte_is_text_like_any_other(server: Server, path: str) -> None:
    body = {"inputs": "a\0b"} if path == ROWS else text(prompt="a\0b", max_tokens=9)
    assert "a\\u0000b" in server.post(path, body).text


def test_a_temperature_of_next_to_nothing_is_greedy(server: Server) -> None:
    response = server.post(TEXTS, text(temperature=1e-45, max_tokens=9))
    assert response.json()["choices"][0]["text"] == "hi"


@pytest.mark.parametrize(
    ("framing", "statuses"),
    [
        (b"content-length: 10000000000\r\n", {413}),
        (b"content-length: -5\r\n", {400}),
        (b"content-length: five\r\n", {400}),
        (b"content-length: 5\r\ncontent-length: 6\r\n", {400}),
        (b"transfer-encoding: chunked\r\ncontent-length: 5\r\n", {400, 408}),
        (b"transfer-encoding: gzip, chunked\r\n", {400, 501}),
    ],
)
def test_a_length_that_lies_ends_the_connection(
    server: Server, framing: bytes, statuses: set[int]
) -> None:
    answer = server.say(HEAD + framing + b"\r\n")
    assert status_of(answer) in statuses
    assert b"connection: close" in answer


@pytest.mark.parametrize("sent", [b"", b"5\r\nhello\r\n", b"1\r\n{\r\n" * 200])
def test_a_body_of_chunks_without_end_is_given_up(server: Server, sent: bytes) -> None:
    assert status_of(server.say(HEAD + b"transfer-encoding: chunked\r\n\r\n" + sent)) == 408


def test_a_body_of_tiny_chunks_is_refused_after_the_first_hundreds(server: Server) -> None:
    sent = HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 100_000
    assert status_of(server.say(sent)) in (400, 0)  # a reset may overtake the answer


def test_a_body_of_chunks_is_bounded_in_bytes(server: Server) -> None:
    chunk = b"%x\r\n%s\r\n" % (60_000, b" " * 60_000)
    sent = HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunk * 17
    assert status_of(server.say(sent)) in (413, 0)  # a reset may overtake the answer


@pytest.mark.parametrize(
    "headers",
    [b"x: " + b"y" * 20_000_000, b"".join(b"x-%d: y\r\n" % n for n in range(10_000))],
)
def test_headers_are_bounded_in_bytes(server: Server, headers: bytes) -> None:
    memory = psutil.Process(server.process.pid).memory_info().rss
    assert status_of(server.say(b"GET /health HTTP/1.1\r\n" + headers)) in (400, 0)
    assert psutil.Process(server.process.pid).memory_info().rss - memory < 10_000_000


def test_heads_that_never_end_are_closed(server: Server) -> None:
    connections = [server.connect() for _ in range(100)]
    for number, connection in enumerate(connections):
        connection.sendall(HEAD[: number % len(HEAD)])
    assert server.post(TEXTS, TEXT).status_code == 200
    for connection in connections:
        assert connection.recv(1) == b""
        connection.close()


@pytest.mark.parametrize("host", ["evil.example", "x/abc?", ""])
def test_another_host_is_refused_whatever_it_hides(server: Server, host: str) -> None:
    answer = server.say(
        f"GET /v1/models HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode()
    )
    assert status_of(answer) in (400, 403)
    assert host == "" or host.encode() not in answer


@pytest.mark.parametrize("path", ["//v1//models", "/v1/..%2fmodels", "/v1/%00", "/v1/models/"])
def test_no_other_spelling_of_a_path_is_redirected(server: Server, path: str) -> None:
    answer = server.say(
        f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
    )
    assert status_of(answer) == 404
    assert b"location" not in answer.lower()


def test_nothing_is_fetched_for_a_client(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
        for kind in ("image_url", "file", "input_audio", "video_url"):
            body = chat(messages=part(type=kind, **{kind: {"url": url}}))
            assert server.post(CHATS, body).status_code == 400
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    ("given", "kept"),
    [("mine-1.2_3", True), ("a b", False), ("x" * 65, False), ("x" * 10_000, False), ("é", False)],
)
def test_the_id_of_a_request_is_its_clients_only_if_it_is_plain(
    server: Server, given: str, kept: bool
) -> None:
    response = server.client.get("/version", headers=[(b"x-request-id", given.encode())])
    assert (response.headers["x-request-id"] == given) == kept
    logged = json.dumps({"request_id": response.headers["x-request-id"]})[1:-1]
    wait_for(lambda: server.log.count(logged) == 1)


def test_two_ids_are_none(server: Server) -> None:
    headers = [("x-request-id", "one"), ("x-request-id", "two")]
    response = server.client.get("/version", headers=headers)
    assert response.headers["x-request-id"] not in ("one", "two")


def test_a_whole_table_is_checked_before_any_row_is_generated(server: Server) -> None:
    rows = ["x" * 3000] * 20 + [""]
    response = server.post(ROWS, {"inputs": rows})
    assert (response.status_code, response.json()["message"][:7]) == (400, "row 20:")
    assert server.all_places_free()


def test_broken_parquet_is_refused(server: Server) -> None:
    kind = "application/vnd.apache.parquet"
    assert server.post(ROWS, b"PAR1", **{"content-type": kind}).status_code == 400
    assert server.post(ROWS, b"PAR1", **JSON).status_code == 400
