"""What `/metrics` says after real requests, and who may read it."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from mooring.engines.echo import EchoSettings
from mooring.http.app import create_app
from mooring.observe.record import ENDS
from mooring.service.host import STATES, ModelHost
from mooring.service.keys import digest_of
from mooring.settings import AccessSettings, ApiKey, ServerSettings
from tests.http.serving import IDENTITY, Running, running_server, wait_until
from tests.observe.scraping import Scrape, read_metrics

MODEL = {"model_name": "demo", "model_version": "3"}


def scrape(running: Running, **headers: str) -> Scrape:
    with running.client as client:
        response = client.get("/metrics", headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return read_metrics(response.text)


def complete(running: Running, prompt: Any = (97, 98, 99), **fields: Any) -> httpx.Response:
    body = {"model": "demo", "prompt": prompt, **fields}
    return running.post("/v1/completions", {k: v for k, v in body.items() if v is not None})


@pytest.fixture
def fresh() -> Any:
    with running_server() as running:
        yield running


def test_requests_and_tokens_are_counted(fresh: Running) -> None:
    assert complete(fresh, [97, 98, 99]).status_code == 200
    assert complete(fresh, [97, 98, 99], n=2, stream=True, max_tokens=2).status_code == 200
    seen = scrape(fresh)
    own = {**MODEL, "key_name": ""}
    assert seen.value("prompt_tokens_total", **own) == 3 + 2 * 3
    assert seen.value("generation_tokens_total", **own) == 3 + 2 * 2
    assert seen.value("request_success_total", finished_reason="stop", **own) == 1
    assert seen.value("request_success_total", finished_reason="length", **own) == 2
    assert seen.value("request_success_total") == 3
    assert seen.value("time_to_first_token_seconds_count", **own) == 3
    assert seen.value("inter_token_latency_seconds_count", **own) == 2 + 1 + 1
    for name in (
        "e2e_request_latency", "request_queue_time", "request_prefill_time",
        "request_decode_time", "request_inference_time", "request_time_per_output_token",
    ):  # fmt: skip
        assert seen.value(f"{name}_seconds_count", **own) == 3, name
    assert seen.value("request_prompt_tokens_sum", **own) == 9
    assert seen.value("request_generation_tokens_sum", **own) == 7
    assert seen.value("request_params_max_tokens_bucket", le="2.0", **own) == 2
    assert seen.value("request_params_n_sum", **own) == 1 + 2
    assert seen.value("prefix_cache_queries_total", **own) == 9
    assert seen.value("prefix_cache_hits_total", **own) == 0
    route = {"route": "/v1/completions", "method": "POST", "status": "200"}
    assert seen.value("http_requests_total", **route) == 2
    assert seen.value("http_request_duration_seconds_count", route="/v1/completions") == 2


def test_what_clients_make_up_becomes_no_label(fresh: Running) -> None:
    assert complete(fresh, model="made-up").status_code == 404
    with fresh.client as client:
        for path in ("/made-up/path", "/v1/models/made-up", "/made-up/other"):
            assert client.get(path).status_code == 404
        assert client.request("MADEUP", "/health").status_code == 405
        assert client.get("/health", headers={"x-request-id": "made-up"}).status_code == 200
    seen = scrape(fresh)
    assert not [value for value in seen.label_values() if re.search("made-?up", value, re.I)]
    requests = "http_requests_total"
    assert seen.value(requests, route="other", method="GET", status="404") == 2
    assert seen.value(requests, route="/v1/models/{id:path}", status="404") == 1
    assert seen.value(requests, route="/health", method="other", status="405") == 1
    assert seen.value("request_errors_total", code="model_not_found", **MODEL) == 2
    assert seen.value("request_errors_total", code="not_found", **MODEL) == 2


def test_what_runs_is_shown_and_what_left_is_not(slow: Running) -> None:
    async def leave() -> None:
        body = {"model": "demo", "prompt": [97], "stream": True, "ignore_eos": True}
        body["max_tokens"] = 4000
        async with (
            httpx.AsyncClient(base_url=slow.url) as client,
            client.stream("POST", "/v1/completions", json=body) as response,
        ):
            pieces = response.aiter_bytes()
            await anext(pieces)
            seen = await asyncio.to_thread(scrape, slow)
            assert seen.value("num_requests_running", **MODEL) == 1
            assert seen.value("sequences_held", **MODEL) == 1
            assert seen.value("generation_tokens_total", **MODEL) >= 1
            assert seen.value("engine_steps_total", **MODEL) >= 1

    asyncio.run(leave())
    slow.wait_idle()
    wait_until(lambda: scrape(slow).value("http_requests_total", status="499") == 1)
    seen = scrape(slow)
    assert seen.value("num_requests_running") == seen.value("sequences_held") == 0
    assert seen.value("buffered_events") == seen.value("waiting_prompt_tokens") == 0
    assert seen.value("request_success_total", finished_reason="abort") == 1
    assert seen.value("event_loop_lag_seconds_count") >= 1


def test_a_failure_is_an_end_too() -> None:
    with running_server(EchoSettings(fail_after=lambda request: 1)) as running:
        assert complete(running, n=2).status_code == 500
        assert "generation_failed" in complete(running, stream=True).text
        seen = scrape(running)
    assert seen.value("request_success_total", finished_reason="error") == 2
    assert seen.value("request_success_total", finished_reason="abort") == 1
    assert seen.value("request_errors_total", code="generation_failed") == 2


def test_the_engine_and_its_restarts_are_shown(fresh: Running) -> None:
    seen = scrape(fresh)
    facts = {"engine": "echo", "device": "cpu", "precision": "exact", "context_length": "4096"}
    assert seen.value("engine_info", **facts, **MODEL) == 1
    assert seen.value("build_info") == 1
    assert seen.value("sequences_limit") == 32 + 64
    assert [seen.value("state", state=state) for state in STATES] == [0, 1, 0, 0, 0]
    fresh.host.engine_restarting()
    again = scrape(fresh)
    assert [again.value("state", state=state) for state in STATES] == [0, 0, 1, 0, 0]
    assert again.value("engine_restarts_total", **MODEL) == 1
    fresh.host.engine_restarted()
    assert scrape(fresh).value("state", state="ready") == 1


def test_metrics_are_there_while_the_model_loads() -> None:
    async def ask() -> httpx.Response:
        app = create_app(ModelHost(IDENTITY), ServerSettings())
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/metrics")

    response = asyncio.run(ask())
    assert response.status_code == 200
    assert response.headers["x-mooring-model"] == "demo/3@0123456789ab"
    seen = read_metrics(response.text)
    assert seen.value("state", state="starting", **MODEL) == 1
    assert seen.value("num_requests_running") == 0


def test_two_servers_in_one_process_count_apart(fresh: Running) -> None:
    with running_server() as other:
        complete(fresh)
        assert scrape(other).value("request_success_total") == 0
    assert scrape(fresh).value("request_success_total") == 1


def test_every_end_is_shown_before_it_happens(fresh: Running) -> None:
    complete(fresh)
    ends = {
        labels["finished_reason"]
        for labels, _ in scrape(fresh).samples["mooring_request_success_total"]
    }
    assert ends == set(ENDS)


KEYS = (
    ApiKey("team-a", digest_of(b"a")),
    ApiKey("watcher", digest_of(b"w"), models=(), metrics=True),
)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_metrics_are_for_keys_that_may_and_name_who_used_what() -> None:
    with running_server(settings=ServerSettings(port=0, access=AccessSettings(KEYS))) as running:
        body = {"model": "demo", "prompt": [97]}
        assert running.post("/v1/completions", body, **bearer("a")).status_code == 200
        assert running.post("/v1/completions", body, **bearer("w")).status_code == 404
        with running.client as client:
            assert client.get("/metrics").status_code == 401
            refused = client.get("/metrics", headers=bearer("a"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        seen = scrape(running, **bearer("w"))
    assert seen.value("generation_tokens_total", key_name="team-a") == 1
    assert seen.value("generation_tokens_total") == 1
    assert seen.value("request_errors_total", key_name="", code="invalid_api_key") == 1
    assert seen.value("request_errors_total", key_name="team-a", code="forbidden") == 1
    assert seen.value("request_errors_total", key_name="watcher", code="model_not_found") == 1


def test_metrics_can_be_left_open() -> None:
    access = AccessSettings(KEYS, open_metrics=True)
    with running_server(settings=ServerSettings(port=0, access=access)) as running:
        assert scrape(running).value("state", state="ready") == 1
        with running.client as client:
            assert client.get("/version").status_code == 401
