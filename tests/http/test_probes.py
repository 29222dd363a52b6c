from tests.http.serving import LABEL, Running


def test_a_ready_server_says_so(echo: Running) -> None:
    with echo.client as client:
        for path, body in (
            ("/health", {"status": "ok"}),
            ("/ready", {"status": "ready"}),
            ("/ping", {"status": "ready"}),
            ("/version", {"version": "0.1.0"}),
        ):
            response = client.get(path)
            assert (response.status_code, response.json()) == (200, body)
            assert response.headers["x-mooring-model"] == LABEL
            assert "server" not in response.headers


def test_probes_answer_head_requests(echo: Running) -> None:
    with echo.client as client:
        response = client.head("/health")
    assert (response.status_code, response.content) == (200, b"")
