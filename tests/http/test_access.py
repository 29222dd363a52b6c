"""Who gets in: keys, hosts and origins, on a real server."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from starlette.routing import Route

from mooring.engines.echo import EchoSettings
from mooring.errors import InvalidInput
from mooring.http.app import create_app
from mooring.observe.logs import configure_logging
from mooring.service.host import ModelHost
from mooring.service.keys import digest_of
from mooring.settings import AccessSettings, ApiKey, ServerLimits, ServerSettings
from tests.http.serving import IDENTITY, Running, running_server, wait_until

TEXT = {"model": "demo", "prompt": "hi"}
KEYS = (
    ApiKey("alice", digest_of(b"alice-key")),
    ApiKey("one", digest_of(b"one-key"), max_concurrent=1),
    ApiKey("few", digest_of(b"few-key"), tokens_per_minute=20),
    ApiKey("other", digest_of(b"other-key"), models=("org/champion",)),
    ApiKey("none", digest_of(b"none-key"), models=("another",)),
)
ALICE = {"authorization": "Bearer alice-key"}
OPEN = {"/health", "/ready", "/ping"}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    settings = ServerSettings(access=AccessSettings(KEYS, cors_origins=("https://app.example",)))
    with running_server(EchoSettings(context_length=4096), settings) as running:
        yield running


ROUTES = [
    (method, route.path.replace("{id:path}", "demo"))
    for route in create_app(ModelHost(IDENTITY), ServerSettings()).routes
    if isinstance(route, Route)
    for method in sorted(route.methods or ())
]


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/"), ("POST", "/none")])
def test_every_route_but_probes_needs_a_key(guarded: Running, method: str, path: str) -> None:
    with guarded.client as client:
        response = client.request(method, path)
        if path in OPEN:
            assert response.status_code == 200
            return
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert client.request(method, path, headers=ALICE).status_code != 401


@pytest.mark.parametrize(
    "path", ["/health/../v1/models", "//health", "/health/", "/HEALTH", "/v1/models?x=/health"]
)
def test_no_other_spelling_of_a_path_is_open(guarded: Running, path: str) -> None:
    with guarded.raw_socket() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer wrong")],
        [(b"authorization", b"Basic alice-key")],
        [(b"authorization", b"Bearer \xff\xfe")],
        [(b"authorization", b"Bearer " + b"x" * 9000)],
        [(b"authorization", b"Bearer wrong"), (b"x-api-key", b"alice-key")],
        [(b"x-api-key", b"")],
    ],
)
def test_a_wrong_key_is_a_401_in_both_protocols(
    guarded: Running, headers: list[tuple[bytes, bytes]]
) -> None:
    with guarded.client as client:
        response = client.post("/v1/completions", json=TEXT, headers=headers)
        body = response.json()["error"]
        assert (response.status_code, body["type"], body["param"], body["code"]) == (
            401, "invalid_request_error", None, "invalid_api_key",
        )  # fmt: skip
        assert "wrong" not in response.text
        response = client.post("/invocations", json={"inputs": "a"}, headers=headers)
        assert (response.status_code, response.json()["error_code"]) == (401, "UNAUTHENTICATED")


def test_both_headers_carry_a_key(guarded: Running) -> None:
    for headers in (ALICE, {"authorization": "bearer  alice-key"}, {"x-api-key": "alice-key"}):
        assert guarded.post("/v1/completions", TEXT, **headers).status_code == 200
    client = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="alice-key", max_retries=0)
    assert [model.id for model in client.models.list()] == ["demo", "org/champion"]
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()


def test_the_log_has_the_name_and_never_the_key(
    guarded: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging()
    guarded.post("/v1/completions", TEXT, **ALICE)
    guarded.post("/v1/completions", TEXT, **bearer("wrong-key"))
    log = ""

    def both_logged() -> bool:
        """A line is written after its answer, which the client may have read by then."""
        nonlocal log
        log += capfd.readouterr().err
        return log.count("\n") == 2

    wait_until(both_logged)
    first, second = [json.loads(line) for line in log.splitlines()]
    assert (first["key"], first["status"]) == ("alice", 200)
    assert (second.get("key"), second["status"]) == (None, 401)
    assert "alice-key" not in log
    assert "wrong-key" not in log


def test_a_key_has_its_models(guarded: Running) -> None:
    headers = bearer("other-key")
    with guarded.client as client:
        listed = client.get("/v1/models", headers=headers).json()["data"]
        assert [model["id"] for model in listed] == ["org/champion"]
        assert client.get("/v1/models/demo", headers=headers).status_code == 404
        assert client.get("/v1/models/org/champion", headers=headers).status_code == 200
    response = guarded.post("/v1/completions", TEXT, **headers)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    champion = {**TEXT, "model": "org/champion"}
    assert guarded.post("/v1/completions", champion, **headers).status_code == 200
    assert guarded.post("/invocations", {"inputs": "a"}, **headers).status_code == 200
    response = guarded.post("/invocations", {"inputs": "a"}, **bearer("none-key"))
    assert (response.status_code, response.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_key_has_its_tokens_per_minute(guarded: Running) -> None:
    headers = bearer("few-key")
    body = {**TEXT, "prompt": [104, 105], "max_tokens": 10}
    response = guarded.post("/v1/completions", body, **headers)
    assert response.json()["usage"]["total_tokens"] == 4
    for stream in (False, True):
        response = guarded.post(
            "/v1/completions", {**body, "max_tokens": 200, "stream": stream}, **headers
        )
        assert (response.status_code, response.json()["error"]["type"]) == (429, "rate_limit_error")
        assert response.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(response.headers["retry-after"]) <= 15
    response = guarded.post(
        "/invocations", {"inputs": "a", "params": {"max_tokens": 99}}, **headers
    )
    assert (response.status_code, response.json()["error_code"]) == (429, "RESOURCE_EXHAUSTED")
    streamed = guarded.post("/v1/completions", {**body, "stream": True}, **headers)
    assert streamed.text.endswith("data: [DONE]\n\n")
    body = {**body, "max_tokens": 8}
    assert guarded.post("/v1/completions", body, **headers).status_code == 200


def test_a_key_has_its_requests_at_once() -> None:
    settings = ServerSettings(access=AccessSettings(KEYS), server=ServerLimits(drain_seconds=0.1))
    with running_server(EchoSettings(seconds_per_token=0.02), settings) as running:
        headers = bearer("one-key")
        long = {**TEXT, "prompt": "x" * 2000, "stream": True}
        with (
            running.client as client,
            client.stream("POST", "/v1/completions", json=long, headers=headers),
        ):
            response = running.post("/v1/completions", TEXT, **headers)
            assert (response.status_code, response.headers["retry-after"]) == (429, "2")
            assert response.json()["error"]["code"] == "rate_limit_exceeded"
            assert running.post("/v1/completions", TEXT, **ALICE).status_code == 200
        running.wait_idle()

        def free() -> bool:
            return running.post("/v1/completions", TEXT, **headers).status_code == 200

        wait_until(free)


def test_keys_of_a_file_can_change_while_serving(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [{"name": "a", "sha256": digest_of(b"old")}]}))
    settings = ServerSettings(access=AccessSettings(keys_file=str(file)))
    with running_server(settings=settings) as running:
        assert running.post("/v1/completions", TEXT, **bearer("old")).status_code == 200
        file.write_text(json.dumps({"keys": [{"name": "b-name", "sha256": digest_of(b"new")}]}))

        def changed() -> bool:
            return running.post("/v1/completions", TEXT, **bearer("new")).status_code == 200

        wait_until(changed)
        assert running.post("/v1/completions", TEXT, **bearer("old")).status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("LocalHost", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("x/abc?", 400),
        ("localhost:8000@evil", 400),
    ],
)
def test_on_loopback_only_its_own_names_are_answered(echo: Running, host: str, status: int) -> None:
    with echo.client as client:
        response = client.get("/v1/models", headers={"host": host})
        assert response.status_code == status
        assert host not in response.text or status == 200
        assert client.get("/health", headers={"host": host}).status_code == 200
        if status == 403:
            assert response.json()["error"]["code"] == "forbidden"
            response = client.post("/invocations", headers={"host": host})
            assert response.json()["error_code"] == "PERMISSION_DENIED"


def test_other_names_are_answered_when_they_are_given() -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        access = AccessSettings(allowed_hosts=("Models.example",))
        settings = ServerSettings(host=host, access=access)
        with running_server(settings=settings) as running, running.client as client:
            for name, status in (("models.example", 200), ("evil.example", 403)):
                response = client.get("/version", headers={"host": name})
                assert response.status_code == status


def test_on_other_addresses_all_names_are_answered() -> None:
    settings = ServerSettings(host="0.0.0.0")
    with running_server(settings=settings) as running, running.client as client:
        assert client.get("/version", headers={"host": "models.example"}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://evil.example", 403), ("null", 403), ("https://app.example", 200)],
)
def test_pages_of_other_sites_may_not_post(guarded: Running, origin: str, status: int) -> None:
    response = guarded.post("/v1/completions", TEXT, origin=origin, **ALICE)
    assert response.status_code == status
    allowed = response.headers.get("access-control-allow-origin")
    assert allowed == (origin if status == 200 else None)


def test_the_own_pages_may_post(guarded: Running) -> None:
    response = guarded.post("/v1/completions", TEXT, origin=guarded.url, **ALICE)
    assert response.status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST", "BREW"])
def test_every_unsafe_method_is_checked(echo: Running, method: str) -> None:
    with echo.client as client:
        headers = {"origin": "https://evil.example"}
        assert client.request(method, "/v1/models", headers=headers).status_code == 403
        assert client.get("/v1/models", headers=headers).status_code == 200


def test_a_browser_may_ask_before_it_posts(guarded: Running, echo: Running) -> None:
    asked = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
    }
    with guarded.client as client:
        response = client.options("/v1/completions", headers=asked)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    assert "POST" in response.headers["access-control-allow-methods"]
    with echo.client as client:
        response = client.options("/v1/completions", headers=asked)
    assert response.status_code == 405
    assert "access-control-allow-origin" not in response.headers


def test_every_answer_forbids_guessing_its_type(guarded: Running) -> None:
    with guarded.client as client:
        for response in (client.get("/health"), client.get("/none"), client.get("/v1/models")):
            assert response.headers["x-content-type-options"] == "nosniff"


def test_many_wrong_keys_do_no_harm(guarded: Running) -> None:
    before = threading.active_count()
    with guarded.client as client:
        statuses = {client.get("/version", headers=bearer(f"k{n}")).status_code for n in range(300)}
        assert statuses == {401}
        assert client.get("/version", headers=ALICE).status_code == 200
    assert threading.active_count() == before


def test_a_server_with_broken_keys_does_not_start(tmp_path: Path) -> None:
    access = AccessSettings(keys_file=str(tmp_path / "none"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        create_app(ModelHost(IDENTITY), ServerSettings(access=access))


def test_pages_that_are_let_in_may_send_the_headers_of_the_openai_client(guarded: Running) -> None:
    asked = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    with guarded.client as client:
        answer = client.options("/v1/chat/completions", headers=asked)
        assert answer.status_code == 200
        assert "x-stainless-os" in answer.headers["access-control-allow-headers"]
        asked["origin"] = "https://evil.example"
        answer = client.options("/v1/chat/completions", headers=asked)
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["", "app.example", "https://app.example/", "https://App.example", "https://*.a.b"]
)
def test_an_origin_that_no_browser_sends_is_refused_at_the_start(origin: str) -> None:
    settings = ServerSettings(access=AccessSettings(cors_origins=(origin,)))
    with pytest.raises(InvalidInput, match="as browsers do"):
        create_app(ModelHost(IDENTITY), settings)


def test_every_page_may_be_let_in() -> None:
    settings = ServerSettings(access=AccessSettings(cors_origins=("*",)))
    with running_server(settings=settings) as running, running.client as client:
        answer = client.post(
            "/v1/completions", json=TEXT, headers={"origin": "https://any.example"}
        )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
