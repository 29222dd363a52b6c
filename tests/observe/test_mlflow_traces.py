"""Sampled requests in a real `mlflow server`, found by the logged model that answered them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mooring.api.package import PackagedModel
from mooring.errors import InvalidInput
from mooring.http.app import metrics_of
from mooring.observe import outbox
from mooring.observe.mlflow_traces import Destination, MlflowTraces
from mooring.observe.observers import Observers
from mooring.registry import LoggedModel, find_logged_model
from mooring.service.host import ModelHost
from tests.conftest import Store
from tests.http.serving import Running, running_server, wait_until
from tests.observe.scraping import read_metrics
from tests.processes import BIN, free_port, server

CHAT: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "secret"}]}
OUTPUT = "user:secret\n"


@pytest.fixture(scope="module")
def logged(store: Store, demo: PackagedModel) -> LoggedModel:
    return find_logged_model("models:/demo@champion", "demo", "1", store.tracking_uri)


@pytest.fixture(scope="module")
def tracking_uri(store: Store, demo: PackagedModel) -> Iterator[str]:
    uri = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        BIN / "mlflow", "server", "--port", port, "--workers", 1,
        "--backend-store-uri", store.tracking_uri,
    ]  # fmt: skip
    with server(command, f"{uri}/health"):
        yield uri


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "CLOSING_SECONDS", 60.0)


@contextmanager
def traced(
    destination: Destination, rate: float = 1.0, *, keeps_content: bool = False
) -> Iterator[Running]:
    """Serve with traces going to MLflow, which has them all at the end."""
    made: list[MlflowTraces] = []
    chances = iter([0.1, 0.9] * 50)

    def observe(host: ModelHost) -> Observers:
        metrics = metrics_of(host)
        drop = metrics.drops_to("mlflow")
        traces = MlflowTraces(metrics.served, destination, rate, drop, chance=lambda: next(chances))
        made.append(traces)
        return Observers(metrics, (traces,), keeps_content=keeps_content)

    with running_server(observe=observe) as running:
        yield running
        made[0].close()


def traces_of(tracking_uri: str, logged: LoggedModel, request_id: str) -> list[Any]:
    from mlflow import MlflowClient

    found = MlflowClient(tracking_uri).search_traces(
        locations=[logged.experiment_id], model_id=logged.model_id
    )
    return [trace for trace in found if trace.info.client_request_id == request_id]


def test_a_trace_is_found_by_the_logged_model(tracking_uri: str, logged: LoggedModel) -> None:
    destination = Destination(tracking_uri, logged.experiment_id, logged.model_id)
    with traced(destination) as running:
        body = CHAT | {"max_tokens": 4, "stream": True}
        assert running.post("/v1/chat/completions", body, **{"x-request-id": "seen"}).is_success
        body = CHAT | {"model": "unknown"}
        refused = running.post("/v1/chat/completions", body, **{"x-request-id": "refused"})
        assert refused.status_code == 404
    (trace,) = traces_of(tracking_uri, logged, "seen")
    assert trace.info.trace_metadata["mlflow.modelId"] == logged.model_id
    assert trace.info.state.value == "OK"
    assert trace.info.tags["mlflow.traceName"] == "chat demo"
    assert trace.info.token_usage == {
        "input_tokens": len(OUTPUT), "output_tokens": 4, "total_tokens": len(OUTPUT) + 4,
    }  # fmt: skip
    root, *phases = sorted(trace.data.spans, key=lambda span: span.parent_id is not None)
    assert (root.name, root.span_type, root.parent_id) == ("chat demo", "CHAT_MODEL", None)
    assert {phase.parent_id for phase in phases} == {root.span_id}
    assert sorted(phase.name for phase in phases) == ["decode", "prefill", "queue"]
    assert root.attributes["gen_ai.response.finish_reasons"] == ["length"]
    assert "secret" not in str(trace.to_dict())
    (failed,) = traces_of(tracking_uri, logged, "refused")
    assert failed.info.state.value == "ERROR"


def test_content_is_kept_only_if_wanted(tracking_uri: str, logged: LoggedModel) -> None:
    destination = Destination(tracking_uri, logged.experiment_id, logged.model_id)
    with traced(destination, keeps_content=True) as running:
        headers = {"x-request-id": "told"}
        assert running.post("/v1/chat/completions", CHAT, **headers).is_success
    (trace,) = traces_of(tracking_uri, logged, "told")
    root = next(span for span in trace.data.spans if span.parent_id is None)
    assert root.inputs == [{"role": "user", "parts": [{"type": "text", "content": "secret"}]}]
    assert root.outputs[0]["parts"] == [{"type": "text", "content": OUTPUT}]
    assert "secret" in trace.info.request_preview


def test_a_share_of_requests_is_traced_in_a_local_store_too(
    store: Store, logged: LoggedModel
) -> None:
    destination = Destination(store.tracking_uri, logged.experiment_id, logged.model_id)
    with traced(destination, 0.5) as running:
        for number in range(4):
            headers = {"x-request-id": f"sampled-{number}"}
            assert running.post("/v1/chat/completions", CHAT, **headers).is_success
    counts = [len(traces_of(store.tracking_uri, logged, f"sampled-{n}")) for n in range(4)]
    assert counts == [1, 0, 1, 0]


def test_a_tracking_server_that_is_away_costs_an_answer_nothing(
    monkeypatch: pytest.MonkeyPatch, logged: LoggedModel
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = Destination(f"http://127.0.0.1:{free_port()}", logged.experiment_id, logged.model_id)

    def dropped() -> float:
        with running.client as client:
            text = client.get("/metrics").text
        return read_metrics(text).value("traces_dropped_total", destination="mlflow")

    with traced(away) as running:
        for _ in range(3):
            assert running.post("/v1/chat/completions", CHAT).is_success
        wait_until(lambda: dropped() == 3)


def test_without_a_logged_model_there_are_no_traces(tmp_path: Path, store: Store) -> None:
    with pytest.raises(InvalidInput, match="Serve models:/NAME/VERSION"):
        find_logged_model(str(tmp_path), "demo", None, store.tracking_uri)


def test_a_logged_model_may_be_named_itself(store: Store, logged: LoggedModel) -> None:
    uri = f"models:/{logged.model_id}"
    assert find_logged_model(uri, "demo", None, store.tracking_uri) == logged
