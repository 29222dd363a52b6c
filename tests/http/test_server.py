import errno
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from mooring.engines.echo import EchoSettings
from mooring.errors import CorruptArtifact, EngineStopped, MooringError, NotReady
from mooring.http.server import bind, run_server
from mooring.service.host import ModelHost
from mooring.service.text_service import TextService
from mooring.settings import ServerLimits, ServerSettings
from tests.http.serving import IDENTITY, PATIENCE, Running, running_server, wait_until
from tests.service.texts import echo_service

LONG = {"model": "demo", "prompt": "x" * 3000, "stream": True}


def test_the_url_is_announced_when_listening_and_when_ready(echo: Running) -> None:
    assert echo.announced == [(echo.url, "starting"), (echo.url, "ready")]
    assert echo.url.startswith("http://127.0.0.1:")


def test_a_port_in_use_is_one_clear_error(echo: Running) -> None:
    port = httpx.URL(echo.url).port or 0
    with pytest.raises(MooringError) as error:
        run_server(
            ModelHost(IDENTITY),
            ServerSettings(port=port),
            load=lambda: pytest.fail("loaded before the port was had"),
            announce=lambda url: None,
        )
    assert error.value.message == (
        f"port {port} of 127.0.0.1 is in use. Stop what uses it, or choose another port."
    )


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "port 80 of 127.0.0.1 needs more rights. Choose a port above 1023."),
        (errno.EMFILE, "port 80 of 127.0.0.1 cannot be opened: Too many open files."),
    ],
)
def test_other_reasons_are_told(monkeypatch: pytest.MonkeyPatch, number: int, message: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "Too many open files")

    monkeypatch.setattr(socket.socket, "bind", fail)
    with pytest.raises(MooringError) as error:
        bind("127.0.0.1", 80)
    assert error.value.message == message


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(MooringError, match="address of this machine"):
        bind(host, 0)


def test_a_model_that_cannot_be_loaded_ends_the_server() -> None:
    def load() -> TextService:
        raise CorruptArtifact("weights differ")

    with pytest.raises(CorruptArtifact, match="weights differ"):
        run_server(
            ModelHost(IDENTITY), ServerSettings(port=0), load=load, announce=lambda url: None
        )


def test_an_engine_that_failed_for_good_ends_the_server() -> None:
    host = ModelHost(IDENTITY)
    states: list[str] = []

    def announce(url: str) -> None:
        states.append(host.state)
        if host.state == "ready":
            threading.Thread(target=host.engine_failed, args=(EngineStopped("died"),)).start()

    with echo_service() as service, pytest.raises(EngineStopped, match="died"):
        run_server(host, ServerSettings(port=0), load=lambda: service, announce=announce)
    assert states == ["starting", "ready"]
    assert host.state == "draining"


def test_while_loading_only_probes_answer() -> None:
    loaded = threading.Event()
    urls: list[str] = []
    host = ModelHost(IDENTITY)

    def load() -> TextService:
        loaded.wait(PATIENCE)
        raise NotReady("enough")

    def serve() -> None:
        with pytest.raises(NotReady, match="enough"):
            run_server(host, ServerSettings(port=0), load=load, announce=urls.append)

    thread = threading.Thread(target=serve)
    thread.start()
    wait_until(lambda: bool(urls))
    with httpx.Client(base_url=urls[0]) as client:
        assert client.get("/health").status_code == 200
        for method, path, body in (
            ("GET", "/ready", None),
            ("GET", "/ping", None),
            ("GET", "/v1/models", None),
            ("GET", "/v1/models/demo", None),
            ("POST", "/v1/completions", {"model": "demo", "prompt": "a"}),
            ("POST", "/v1/chat/completions", {"model": "demo", "messages": []}),
            ("POST", "/invocations", {"inputs": "a"}),
        ):
            response = client.request(method, path, json=body)
            assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        assert client.get("/ready").json() == {"status": "starting"}
        assert response.json() == {
            "error_code": "TEMPORARILY_UNAVAILABLE",
            "message": "The model is loading. Try again shortly.",
        }
    loaded.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_draining_finishes_what_runs_and_refuses_what_comes() -> None:
    engine = EchoSettings(seconds_per_token=0.01)
    with running_server(engine) as running:
        body = {"model": "demo", "prompt": "x" * 60, "stream": True}
        with (
            running.client as client,
            client.stream("POST", "/v1/completions", json=body) as answer,
        ):
            running.server.stop()
            wait_until(lambda: running.host.state == "draining")
            refused = running.post("/v1/completions", {"model": "demo", "prompt": "a"})
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "not_ready"
            with running.client as other:
                assert other.get("/ready").json() == {"status": "draining"}
                assert other.get("/health").status_code == 200
            text = answer.read().decode()
        assert text.count('"text":"x"') == 60
        assert text.endswith("data: [DONE]\n\n")
        running.thread.join(PATIENCE)
        with pytest.raises(httpx.ConnectError):
            running.post("/v1/completions", {})


def test_an_answer_that_tells_of_its_prompt_ends_well_while_draining() -> None:
    answers: list[httpx.Response] = []
    with running_server(EchoSettings(seconds_per_token=0.02)) as running:
        body = {"model": "demo", "prompt": [97, 98] * 20, "prompt_logprobs": 0}

        def ask() -> None:
            answers.append(running.post("/v1/completions", body))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: running.service.load.running == 1)
        running.server.stop()
        wait_until(lambda: running.host.state == "draining")
        asking.join(PATIENCE)
    choice = answers[0].json()["choices"][0]
    assert (choice["text"], len(choice["prompt_logprobs"])) == ("ab" * 20, 40)


def test_a_clock_that_jumps_changes_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, jumps = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: wall() + jumps[-1])
    # The usual limits are all shorter than an hour.
    with running_server(EchoSettings(seconds_per_token=0.01)) as running:
        body = {"model": "demo", "prompt": "x" * 40, "stream": True}
        for jump in (-3600.0, 3600.0):
            with (
                running.client as client,
                client.stream("POST", "/v1/completions", json=body) as answer,
            ):
                lines = answer.iter_lines()
                assert '"text":"x"' in next(line for line in lines if "text" in line)
                jumps.append(jump)
                rest = list(lines)
            assert sum('"text":"x"' in line for line in rest) == 39
            assert "data: [DONE]" in rest
        assert running.service.activity.sequences == 0


def test_after_the_signal_requests_are_still_taken_for_a_while() -> None:
    settings = ServerSettings(server=ServerLimits(drain_delay=2.0))
    with running_server(settings=settings) as running:
        running.server.stop()
        wait_until(lambda: running.host.state == "leaving")
        with running.client as client:
            response = client.get("/ready")
        assert (response.status_code, response.json()) == (503, {"status": "leaving"})
        taken = running.post("/v1/completions", {"model": "demo", "prompt": "a"})
        assert taken.json()["choices"][0]["text"] == "a"
        wait_until(lambda: running.host.state == "draining")


def test_what_waits_when_the_drain_begins_is_refused_at_once() -> None:
    engine = EchoSettings(seconds_per_token=0.01, max_running=1)
    with running_server(engine) as running:
        refused: list[httpx.Response] = []

        def ask() -> None:
            refused.append(running.post("/v1/completions", {"model": "demo", "prompt": "a"}))

        with (
            running.client as client,
            client.stream("POST", "/v1/completions", json={**LONG, "prompt": "x" * 200}) as answer,
        ):
            asking = threading.Thread(target=ask)
            asking.start()
            wait_until(lambda: running.service.activity.sequences == 2)
            running.server.stop()
            asking.join(PATIENCE)
            assert (refused[0].status_code, refused[0].headers["retry-after"]) == (503, "2")
            assert refused[0].json()["error"]["code"] == "not_ready"
            text = answer.read().decode()
        assert text.count('"text":"x"') == 200
        assert text.endswith("data: [DONE]\n\n")


def test_what_outlasts_the_drain_gets_an_error() -> None:
    settings = ServerSettings(port=0, server=ServerLimits(drain_seconds=0.2))
    with running_server(EchoSettings(seconds_per_token=0.02), settings) as running:
        statuses = []

        def ask() -> None:
            body = {**LONG, "stream": False}
            statuses.append(running.post("/v1/completions", body).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        with (
            running.client as client,
            client.stream("POST", "/v1/completions", json=LONG) as answer,
        ):
            wait_until(lambda: running.service.activity.sequences == 2)
            running.server.stop()
            *_, error, done, end = answer.read().decode().split("\n\n")
        asking.join(PATIENCE)
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "not_ready"
    assert (done, end) == ("data: [DONE]", "")
    assert statuses == [503]


SERVER = """
import sys, time
from mooring.engines.echo import EchoSettings
from mooring.http.server import run_server
from mooring.service.host import ModelHost
from mooring.settings import ServerLimits, ServerSettings
from tests.http.serving import IDENTITY
from tests.service.texts import echo_service

drain_seconds, load_seconds = map(float, sys.argv[1:])

with echo_service(EchoSettings(seconds_per_token=0.02)) as service:
    def load():
        time.sleep(load_seconds)
        return service

    settings = ServerSettings(port=0, server=ServerLimits(drain_seconds=drain_seconds))
    announce = lambda url: print(url, flush=True)
    code = run_server(ModelHost(IDENTITY), settings, load=load, announce=announce)
sys.exit(code)
"""


@contextmanager
def server_process(drain: float, load: float = 0) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(drain), str(load)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def url_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_streams_finish_and_exits_with_0(number: signal.Signals) -> None:
    with server_process(drain=PATIENCE) as process:
        url = url_of(process)
        assert url_of(process) == url
        body = {"model": "demo", "prompt": "x" * 40, "stream": True}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=PATIENCE) as answer:
            process.send_signal(number)
            text = answer.read().decode()
        assert text.count('"text":"x"') == 40
        assert text.endswith("data: [DONE]\n\n")
        out, log = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "")
    (line,) = [json.loads(line) for line in log.splitlines()]
    assert (line["path"], line["status"], line["completion_tokens"]) == (
        "/v1/completions", 200, 41,
    )  # fmt: skip


def test_a_signal_ends_streams_with_an_error_at_the_deadline() -> None:
    with server_process(drain=0.3) as process:
        url = url_of(process)
        url_of(process)
        with httpx.stream("POST", f"{url}/v1/completions", json=LONG, timeout=PATIENCE) as answer:
            process.send_signal(signal.SIGTERM)
            *_, error, done, end = answer.read().decode().split("\n\n")
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == "not_ready"
        assert (done, end) == ("data: [DONE]", "")
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_a_second_signal_ends_at_once() -> None:
    with server_process(drain=60) as process:
        url = url_of(process)
        url_of(process)
        with httpx.stream("POST", f"{url}/v1/completions", json=LONG, timeout=PATIENCE):
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: httpx.get(f"{url}/ready").status_code == 503)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM


def test_a_signal_while_loading_ends_the_server() -> None:
    with server_process(drain=60, load=60) as process:
        url = url_of(process)
        assert httpx.get(f"{url}/health").status_code == 200
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
