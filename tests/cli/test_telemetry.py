"""The options of telemetry, and the standard variables that mean the same."""

import pytest

from mooring.cli.telemetry import telemetry_settings
from mooring.errors import InvalidInput
from mooring.settings import TelemetrySettings

ENDPOINT = "http://collector:4318"


@pytest.mark.parametrize(
    ("environment", "spans", "metrics"),
    [
        ({}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT}, True, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ENDPOINT}, True, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": ENDPOINT}, False, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_METRICS_EXPORTER": "none"}, True, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False, False),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            True, True,
        ),
    ],
)  # fmt: skip
def test_the_standard_variables_turn_signals_on_and_off(
    environment: dict[str, str], spans: bool, metrics: bool
) -> None:
    found = telemetry_settings(None, 0.0, False, environment)
    assert found == TelemetrySettings(otlp_spans=spans, otlp_metrics=metrics)


def test_the_option_turns_both_on() -> None:
    assert telemetry_settings(ENDPOINT, 0.5, True, {}) == TelemetrySettings(
        True, True, ENDPOINT, 0.5, True
    )


@pytest.mark.parametrize("signal", ["", "TRACES_", "METRICS_"])
def test_another_protocol_is_refused_by_name(signal: str) -> None:
    name = f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL"
    with pytest.raises(InvalidInput, match=f"{name} must be http/protobuf. Given: grpc"):
        telemetry_settings(ENDPOINT, 0.0, False, {name: "grpc"})
    assert telemetry_settings(None, 0.0, False, {name: "grpc"}) == TelemetrySettings()


def test_an_endpoint_must_be_an_address() -> None:
    with pytest.raises(InvalidInput, match=r"must be an http or https address\. Given: collector"):
        telemetry_settings("collector:4317", 0.0, False, {})
