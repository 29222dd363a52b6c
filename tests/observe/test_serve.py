"""`mooring serve` as an operator starts it: telemetry on, seen from outside."""

from typing import Any

import httpx
from mlflow import MlflowClient

from mooring.api.package import PackagedModel
from mooring.registry import find_logged_model
from tests.conftest import Store
from tests.http.serving import wait_until
from tests.observe.receiver import attributes, receiver
from tests.processes import BIN, free_port, server

BODY = {"model": "demo", "prompt": "What is MLflow?", "max_tokens": 3}


def test_a_request_is_seen_by_the_collector_and_in_mlflow(
    store: Store, demo: PackagedModel
) -> None:
    logged = find_logged_model("models:/demo@champion", "demo", "1", store.tracking_uri)

    def found() -> list[Any]:
        traces = MlflowClient(store.tracking_uri).search_traces(
            locations=[logged.experiment_id], model_id=logged.model_id
        )
        return [one for one in traces if one.info.client_request_id == "from-outside"]

    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        BIN / "mooring", "serve", "models:/demo@champion", "--port", port, "--engine", "echo",
        "--trace-sample-rate", 1, "--trace-content",
    ]  # fmt: skip
    with receiver() as to:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": to.url, "OTEL_SERVICE_NAME": "mine",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
        }  # fmt: skip
        with server(command, f"{url}/ready", environment=environment):
            headers = {"x-request-id": "from-outside"}
            assert httpx.post(f"{url}/v1/completions", json=BODY, headers=headers).is_success
            metrics = httpx.get(f"{url}/metrics").text
            wait_until(lambda: bool(to.spans and to.histograms), 60)
            wait_until(lambda: len(found()) == 1, 60)
        root = attributes(to.spans[-1].attributes)
        assert to.resource["service.name"] == "mine"
        assert set(to.histograms) >= {"gen_ai.server.request.duration", "gen_ai.client.token.usage"}
    assert root["mooring.request_id"] == "from-outside"
    assert root["gen_ai.usage.output_tokens"] == 3
    assert 'mooring_generation_tokens_total{key_name="",model_name="demo"' in metrics
    (trace,) = found()
    assert "What is MLflow?" in str(trace.info.request_preview)
