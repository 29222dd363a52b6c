"""Clients that leave, stall, crowd and come at the end: what they had goes back, others go on."""

import json
import random
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines.process.children import wait_for
from tests.faults.attacked import (
    LONG_TEXT,
    PATIENCE,
    RUNNING,
    TEXT,
    WAITING,
    Bystander,
    Server,
    echo_server,
    everything,
    status_of,
    unharmed,
)

KEY, OTHER = "one", "two"
AUTHORIZED = {"authorization": f"Bearer {KEY}"}
LONG = {**TEXT, "prompt": LONG_TEXT, "max_tokens": 2000}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve for the whole file while a bystander with a key of its own streams."""
    log = tmp_path_factory.mktemp("clients") / "log"
    options = ("--step", 0.005, "--stalled-seconds", 1, "--key", KEY, "--key", OTHER)
    with echo_server(log, *options) as server:
        server.client.headers.update(AUTHORIZED)
        with Bystander(server, OTHER):
            yield server


@pytest.fixture
def server(crowded: Server) -> Iterator[Server]:
    """The server of the file, which has all that was taken back after each test."""
    with unharmed(crowded):
        yield crowded


def asking(server: Server, **fields: Any) -> socket.socket:
    """Ask for a long stream, and read nothing of it yet."""
    body = json.dumps({**LONG, "stream": True, **fields}).encode()
    connection = server.connect()
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %s\r\ncontent-length: %d\r\n\r\n%s"
        % (KEY.encode(), len(body), body)
    )
    return connection


def statuses(server: Server) -> list[int]:
    """The statuses of the log, in order."""
    lines = [json.loads(line) for line in server.log.splitlines()]
    return [line["status"] for line in lines if line.get("path") == "/v1/completions"]


@pytest.mark.parametrize("when", ["before", "within", "whole", "waiting"])
def test_a_client_that_leaves_is_a_499_and_its_work_ends(server: Server, when: str) -> None:
    before = statuses(server).count(499)
    with ExitStack() as stack:
        if when == "waiting":
            for _ in range(RUNNING + 3):
                stack.enter_context(asking(server))
        connection = stack.enter_context(asking(server, stream=when != "whole"))
        if when == "within":
            assert status_of(connection.recv(65536)) == 200
        else:
            wait_for(lambda: not server.all_places_free())
    expected = RUNNING + 4 if when == "waiting" else 1
    wait_for(lambda: statuses(server).count(499) == before + expected)


def test_a_storm_of_streams_cut_at_random_times_leaves_nothing(server: Server) -> None:
    chance = random.Random(7)

    def cut(seconds: float) -> None:
        with asking(server) as connection:
            connection.settimeout(seconds)
            try:
                while connection.recv(65536):
                    pass
            except TimeoutError:
                return

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(cut, [chance.uniform(0.001, 0.3) for _ in range(150)]))


def test_a_half_closed_connection_is_a_client_that_left(server: Server) -> None:
    with asking(server) as connection:
        assert status_of(connection.recv(65536)) == 200
        connection.shutdown(socket.SHUT_WR)
        everything(connection)


def test_one_more_than_may_wait_is_refused_at_once(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(RUNNING + WAITING):
            stack.enter_context(asking(server))
        wait_for(lambda: server.taken() == RUNNING + WAITING)
        for path, body in (
            ("/v1/completions", {**LONG, "stream": True}),
            (
                "/v1/chat/completions",
                {"model": "echo", "messages": [{"role": "user", "content": ""}]},
            ),
            ("/invocations", {"inputs": "a"}),
        ):
            response = server.post(path, body)
            if path.startswith("/v1/chat"):
                assert response.status_code in (400, 503)
                continue
            assert response.status_code == 503
            assert 1 <= int(response.headers["retry-after"]) <= 30
            assert "server_busy" in response.text or "TEMPORARILY_UNAVAILABLE" in response.text


def test_eight_answers_count_as_eight(server: Server) -> None:
    with asking(server, n=8), asking(server, n=4):
        wait_for(lambda: server.taken() >= 12)
        assert server.post("/v1/completions", {**LONG, "n": 5}).status_code == 503
        assert server.post("/v1/completions", {**TEXT, "n": 2}).status_code == 200


@pytest.mark.parametrize("key", ["wrong", "é", "x" * 5000, "ONE"])
def test_a_wrong_key_is_a_401(server: Server, key: str) -> None:
    headers = [(b"authorization", f"Bearer {key}".encode())]
    response = httpx.post(f"{server.url}/v1/completions", json=TEXT, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")


def test_an_engine_that_is_stopped_is_found_out_and_nobody_loses_a_token(tmp_path: Path) -> None:
    options = ("--step", 0.005, "--hang-seconds", 2)
    with (
        echo_server(tmp_path / "log", *options) as server,
        Bystander(server) as bystander,
        unharmed(server),
    ):
        wait_for(lambda: bool(bystander.texts))
        engine = server.engine
        engine.suspend()
        wait_for(lambda: server.client.get("/ready").status_code == 503)
        assert server.client.get("/health").status_code == 200
        wait_for(lambda: server.client.get("/ready").status_code == 200)
        assert not engine.is_running()
    assert "it said nothing for" in server.log


def test_a_signal_lets_what_runs_finish_and_refuses_what_waits(tmp_path: Path) -> None:
    with echo_server(tmp_path / "log", "--step", 0.01, "--waiting", 20) as server:
        found: list[httpx.Response] = []

        def ask() -> None:
            body = {**LONG, "stream": True}
            found.append(httpx.post(f"{server.url}/v1/completions", json=body, timeout=PATIENCE))

        asking = [threading.Thread(target=ask) for _ in range(RUNNING + 20)]
        for number, thread in enumerate(asking, start=1):
            thread.start()
            if number == RUNNING:  # all run before more come, so that no more than 20 wait
                wait_for(lambda: server.taken() == RUNNING)
        wait_for(lambda: server.taken() == RUNNING + 20)
        engine = server.engine
        server.process.send_signal(signal.SIGTERM)
        for thread in asking:
            thread.join(PATIENCE)
        assert server.process.wait(PATIENCE) == 0
    whole = [response for response in found if response.status_code == 200]
    refused = [response for response in found if response.status_code == 503]
    assert (len(whole), len(refused)) == (RUNNING, 20)
    assert all(response.text.endswith("data: [DONE]\n\n") for response in whole)
    assert all("error" not in response.text for response in whole)
    assert all(response.headers["retry-after"] for response in refused)
    assert not engine.is_running()
    with socket.create_server(("127.0.0.1", server.port)):
        pass  # the port is free again
