import socket
import time

import pytest

from mooring.settings import ServerLimits, ServerSettings
from tests.http.serving import Running, running_server

HEAD = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
LIMIT = ServerSettings(port=0, server=ServerLimits(max_body_bytes=1000))


def everything(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_body_of_just_the_limit_is_read(echo: Running) -> None:
    with running_server(settings=LIMIT) as running, running.client as client:
        body = b'{"model":"demo","prompt":"a"}'
        for padding, status in ((1000, 200), (1001, 413)):
            response = client.post(
                "/v1/completions",
                content=body.ljust(padding),
                headers={"content-type": "application/json"},
            )
            assert response.status_code == status
        assert response.json()["error"]["code"] == "body_too_large"
        message = response.json()["error"]["message"]
        assert message.startswith("The body must have at most 1000 bytes. ")
        response = client.post(
            "/invocations", content=b"a" * 1001, headers={"content-type": "text/csv"}
        )
        assert (response.status_code, response.json()["error_code"]) == (413, "BAD_REQUEST")


def test_a_length_over_the_limit_is_refused_before_the_body_is_sent() -> None:
    with running_server(settings=LIMIT) as running, running.raw_socket() as connection:
        connection.sendall(f"{HEAD}content-length: 10000000000\r\n\r\n".encode())
        answer = everything(connection)
    assert status_of(answer) == 413
    assert b"connection: close" in answer.lower()


def test_chunks_are_counted_as_they_come() -> None:
    with running_server(settings=LIMIT) as running, running.raw_socket() as connection:
        connection.sendall(f"{HEAD}transfer-encoding: chunked\r\n\r\n".encode())
        for _ in range(11):
            connection.sendall(b"64\r\n" + b" " * 100 + b"\r\n")
        assert status_of(everything(connection)) == 413


def test_chunks_within_the_limit_are_joined(echo: Running) -> None:
    with echo.raw_socket() as connection:
        connection.sendall(
            f"{HEAD}connection: close\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )
        for letter in b'{"model":"demo","prompt":"chunks"}':
            connection.sendall(b"1\r\n" + bytes([letter]) + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        answer = everything(connection)
    assert status_of(answer) == 200
    assert b'"text":"chunks"' in answer


def test_chunks_are_bounded_in_number(echo: Running) -> None:
    letter, more = b"1\r\n \r\n", b"40\r\n" + b" " * 64 + b"\r\n"
    body = b'21\r\n{"model":"demo","prompt":"chunk"}\r\n0\r\n\r\n'
    for chunks, status in ((letter * 198, 200), (more * 900, 200), (letter * 201, 400)):
        with echo.raw_socket() as connection:
            head = f"{HEAD}connection: close\r\ntransfer-encoding: chunked\r\n\r\n".encode()
            connection.sendall(head + chunks + body)
            assert status_of(everything(connection)) == status


@pytest.mark.parametrize(
    "framing",
    [
        "content-length: -1",
        "content-length: ten",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5\r\nTransfer-Encoding: gzip",
    ],
)
def test_strange_framing_is_refused(echo: Running, framing: str) -> None:
    with echo.raw_socket() as connection:
        connection.sendall(f"{HEAD}{framing}\r\n\r\n".encode())
        assert status_of(everything(connection)) in (400, 501)


def test_a_header_without_end_is_refused(echo: Running) -> None:
    with echo.raw_socket() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 70_000)
        answer = everything(connection)
        assert status_of(answer) == 400
        assert b'"code": "invalid_http"' in answer
        assert b'"error_code": "BAD_REQUEST"' in answer


def test_a_body_that_does_not_come_is_given_up() -> None:
    settings = ServerSettings(server=ServerLimits(body_seconds=0.2))
    began = time.monotonic()
    with running_server(settings=settings) as running, running.raw_socket() as connection:
        connection.sendall(f'{HEAD}content-length: 50\r\n\r\n{{"model"'.encode())
        answer = everything(connection)
    assert status_of(answer) == 408
    assert b'"code":"request_timeout"' in answer
    assert 0.2 <= time.monotonic() - began < 5


def test_a_connection_is_used_again_after_an_error(echo: Running) -> None:
    with echo.client as client:
        statuses = [
            client.post("/v1/completions", json=body).status_code
            for body in ({"model": "x", "prompt": "a"}, {"model": "demo", "prompt": "a"})
        ]
    assert statuses == [404, 200]
