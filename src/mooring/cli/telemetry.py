"""Options for what others are told of requests, and the standard variables beside them."""

from collections.abc import Mapping
from typing import Annotated

import typer

from mooring.errors import InvalidInput
from mooring.settings import TelemetrySettings

PANEL = "Telemetry"

OtlpEndpoint = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        rich_help_panel=PANEL,
        help="Send OpenTelemetry spans and metrics to this receiver of OTLP over HTTP; the "
        "standard variables OTEL_EXPORTER_OTLP_... say more, and do so alone too.",
    ),
]
TraceSampleRate = Annotated[
    float,
    typer.Option(
        min=0, max=1, rich_help_panel=PANEL, help="Share of requests that become MLflow traces."
    ),
]
TraceContent = Annotated[
    bool, typer.Option(rich_help_panel=PANEL, help="Put prompts and answers into traces too.")
]
OpenMetrics = Annotated[
    bool, typer.Option(rich_help_panel=PANEL, help="Let anybody read /metrics, without a key.")
]

_PROTOCOL = "http/protobuf"


def telemetry_settings(
    endpoint: str | None, sample_rate: float, content: bool, environment: Mapping[str, str]
) -> TelemetrySettings:
    """Return what to tell; raise `InvalidInput` where the variables ask for what is not offered."""
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise InvalidInput(
            f"--otlp-endpoint must be an http or https address. Given: {endpoint[:100]}."
        )
    spans = _wanted("TRACES", endpoint, environment)
    metrics = _wanted("METRICS", endpoint, environment)
    return TelemetrySettings(
        otlp_spans=spans,
        otlp_metrics=metrics,
        otlp_endpoint=endpoint,
        trace_sample_rate=sample_rate,
        trace_content=content,
    )


def _wanted(signal: str, endpoint: str | None, environment: Mapping[str, str]) -> bool:
    """Say whether a signal has somewhere to go and is not turned off."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if environment.get(f"OTEL_{signal}_EXPORTER") == "none":
        return False
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    if endpoint is None and not any(environment.get(name) for name in names):
        return False
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"):
        protocol = environment.get(name, _PROTOCOL)
        if protocol != _PROTOCOL:
            raise InvalidInput(f"{name} must be {_PROTOCOL}. Given: {protocol[:40]}.")
    return True
