"""Connections are bounded in number and in patience, and can be encrypted."""

import datetime
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mooring.engines.echo import EchoSettings
from mooring.errors import InvalidInput
from mooring.http.app import metrics_of
from mooring.http.server import check_certificate
from mooring.observe.observers import Observers
from mooring.observe.record import RequestRecord
from mooring.service.host import ModelHost
from mooring.settings import ServerLimits, ServerSettings
from tests.http.serving import PATIENCE, Running, running_server, wait_until

HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"


@contextmanager
def limited(engine: EchoSettings | None = None, **limits: float) -> Iterator[Running]:
    settings = ServerSettings(server=ServerLimits(drain_seconds=0.1, **limits))  # type: ignore[arg-type]
    with running_server(engine, settings) as running:
        yield running


def everything(connection: socket.socket) -> bytes:
    """Read until the server closes; a reset is an end too."""
    read = b""
    try:
        while part := connection.recv(65536):
            read += part
    except ConnectionResetError:
        pass
    return read


def test_one_connection_too_many_is_refused_at_once() -> None:
    with limited(max_connections=2) as running, ExitStack() as stack:
        held = [stack.enter_context(running.raw_socket()) for _ in range(2)]
        for connection in held:
            connection.sendall(HEALTH)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        with running.raw_socket() as refused:
            head, _, body = everything(refused).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 2" in head
        assert b"x-mooring-model: demo/3@0123456789ab" in head
        assert json.loads(body)["error"]["code"] == "server_busy"
        assert json.loads(body)["error_code"] == "TEMPORARILY_UNAVAILABLE"
        assert b"x-request-id: " in head
        held[0].close()

        def taken() -> bool:
            with running.raw_socket() as connection:
                connection.sendall(HEALTH)
                return connection.recv(65536).startswith(b"HTTP/1.1 200 ")

        wait_until(taken)


@pytest.mark.parametrize("sent", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nhost: a\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(sent: bytes) -> None:
    with limited(header_seconds=0.2) as running:
        with running.raw_socket() as connection:
            connection.sendall(sent)
            assert everything(connection) == b""
        wait_until(lambda: not running.server.server_state.connections)


def test_the_head_of_a_later_request_is_timed_as_well() -> None:
    with limited(header_seconds=0.2) as running, running.raw_socket() as connection:
        connection.sendall(HEALTH)
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(65536)
        connection.sendall(b"GET ")
        assert everything(connection) == b""


def test_an_answer_may_take_longer_than_a_head() -> None:
    engine = EchoSettings(seconds_per_token=0.1)
    with limited(engine, header_seconds=0.1) as running:
        body = {"model": "demo", "prompt": "four"}
        assert running.post("/v1/completions", body).json()["choices"][0]["text"] == "four"


def asking_without_reading(running: Running) -> socket.socket:
    """Ask for a stream of 400 kB and more, and read nothing of it."""
    url = httpx.URL(running.url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((url.host, url.port))
    body = json.dumps(
        {"model": "demo", "prompt": "x", "stream": True, "ignore_eos": True, "max_tokens": 90_000}
    )
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        + f"content-length: {len(body)}\r\n\r\n{body}".encode()
    )
    return connection


@pytest.mark.parametrize(
    "limits", [{"stalled_seconds": 0.3, "max_buffered_events": 10**9}, {"max_buffered_events": 256}]
)
def test_a_reader_that_takes_nothing_is_given_up(
    limits: dict[str, float], capfd: pytest.CaptureFixture[str]
) -> None:
    engine = EchoSettings(seconds_per_token=0.0001, context_length=100_000)
    with limited(engine, **limits) as running:
        with asking_without_reading(running):
            wait_until(lambda: running.service.activity.sequences == 1)
            wait_until(lambda: running.service.activity.sequences == 0)
            wait_until(lambda: not running.server.server_state.connections)
        body = {"model": "demo", "prompt": "hi"}
        assert running.post("/v1/completions", body).status_code == 200
    assert "Traceback" not in capfd.readouterr().err


class Told:
    """Keeps the records of all requests."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []

    def answered(self, record: RequestRecord) -> None:
        self.records.append(record)


def test_a_reader_that_takes_nothing_is_cut_at_the_end(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = EchoSettings(seconds_per_token=0.0001, context_length=100_000)
    limits = ServerLimits(drain_seconds=0.1, max_buffered_events=10**9)
    settings, told = ServerSettings(server=limits), Told()

    def observe(host: ModelHost) -> Observers:
        return Observers(metrics_of(host), [told])

    with running_server(engine, settings, observe) as running, asking_without_reading(running):
        wait_until(lambda: running.service.buffered > 100)
        running.server.stop()
        running.thread.join(PATIENCE)
        assert not running.thread.is_alive()
    assert [(one.error, one.ends) for one in told.records] == [("not_ready", ["error"])]
    assert "Traceback" not in caplog.text + capfd.readouterr().err


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the paths of a certificate for 127.0.0.1, and of its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mooring test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


def test_with_a_certificate_the_server_speaks_tls(certificate: tuple[str, str]) -> None:
    cert, key = certificate
    with running_server(settings=ServerSettings(tls_cert=cert, tls_key=key)) as running:
        assert running.url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=cert)
        with httpx.Client(base_url=running.url, verify=trusting, timeout=PATIENCE) as client:
            body = {"model": "demo", "prompt": "hi"}
            response = client.post("/v1/completions", json=body, headers={"origin": running.url})
            assert response.json()["choices"][0]["text"] == "hi"
            body["stream"] = True  # type: ignore[assignment]
            assert client.post("/v1/completions", json=body).text.endswith("data: [DONE]\n\n")
        with httpx.Client(base_url=running.url) as client, pytest.raises(httpx.ConnectError):
            client.get("/health")
        with running.raw_socket() as plain:
            plain.sendall(HEALTH)
            assert not everything(plain).startswith(b"HTTP/")


def test_certificates_that_cannot_be_used_are_refused_in_words(
    certificate: tuple[str, str], tmp_path: Path
) -> None:
    cert, key = certificate
    broken = tmp_path / "broken.pem"
    broken.write_text("nonsense")
    check_certificate(ServerSettings())
    check_certificate(ServerSettings(tls_cert=cert, tls_key=key))
    for tls_cert, tls_key in ((cert, None), (None, key)):
        with pytest.raises(InvalidInput, match="both a certificate and its key"):
            check_certificate(ServerSettings(tls_cert=tls_cert, tls_key=tls_key))
    for tls_cert, tls_key in ((str(broken), key), (cert, str(broken)), (cert, "none"), (key, cert)):
        with pytest.raises(InvalidInput, match="cannot be used: both must be PEM files"):
            check_certificate(ServerSettings(tls_cert=tls_cert, tls_key=tls_key))


def test_nothing_of_the_protocol_is_imported_by_the_command() -> None:
    code = "import sys, mooring.cli.main; print('uvicorn' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
