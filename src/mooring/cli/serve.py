"""`mooring serve`: the OpenAI API and MLflow's scoring protocol on one port."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from mooring.cli import telemetry, upstream
from mooring.cli.config import Config
from mooring.cli.limits import server_limits, service_limits, with_limits
from mooring.cli.options import Conversion, Device, Dtype, TrackingUri, Uri, byte_count
from mooring.cli.output import plain_notes


@with_limits
def serve(
    uri: Uri,
    config: Config = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    served_model_name: Annotated[
        list[str] | None,
        typer.Option(help="A further name clients may call the model by; may be repeated."),
    ] = None,
    engine: Annotated[
        Literal["auto", "transformers", "openvino", "upstream", "echo"],
        typer.Option(help="What generates the tokens; upstream is another server."),
    ] = "auto",
    tool_format: Annotated[
        Literal["auto", "hermes", "llama3", "mistral", "none"],
        typer.Option(help="How the model writes calls of tools; none leaves them in the text."),
    ] = "auto",
    reasoning_format: Annotated[
        Literal["auto", "think", "none"],
        typer.Option(
            help="How the model writes thoughts: think is <think>...</think>; none leaves them."
        ),
    ] = "auto",
    conversion: Conversion = None,
    device: Device = "auto",
    dtype: Dtype = None,
    max_context: Annotated[
        int | None, typer.Option(min=1, help="Shorten the model's context to this many tokens.")
    ] = None,
    max_running: Annotated[int, typer.Option(min=1, help="Sequences generated at once.")] = 32,
    cache_bytes: Annotated[
        int | None,
        typer.Option(
            parser=byte_count,
            metavar="SIZE",
            help="Memory for the keys and values of running sequences, e.g. 2GiB; "
            "half of what is free if not given.",
        ),
    ] = None,
    prefix_cache: Annotated[
        bool,
        typer.Option(help="Read a beginning that prompts have in common once, not each time."),
    ] = True,
    prompt_lookup: Annotated[
        bool,
        typer.Option(help="Guess tokens of an answer that repeats itself or its prompt."),
    ] = True,
    hang_seconds: Annotated[
        float,
        typer.Option(min=0.1, help="Restart an engine that works this long without a step."),
    ] = 10.0,
    upstream_preset: upstream.Preset = None,
    upstream_command: upstream.Command = None,
    upstream_url: upstream.Url = None,
    upstream_start_seconds: upstream.StartSeconds = 600.0,
    tracking_uri: TrackingUri = None,
    tls_cert: Annotated[
        str | None, typer.Option(metavar="FILE", help="Speak TLS with this certificate (PEM).")
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option(metavar="FILE", help="The certificate's key (PEM).")
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(help="A key that callers must show; may be repeated. Better in its variable."),
    ] = None,
    api_keys_file: Annotated[
        str | None,
        typer.Option(help="YAML or JSON of hashed keys and their limits; read again on change."),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="A name to answer to; on loopback, besides its own. May be repeated."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="A site whose pages may use the server; may be repeated."),
    ] = None,
    otlp_endpoint: telemetry.OtlpEndpoint = None,
    trace_sample_rate: telemetry.TraceSampleRate = 0.0,
    trace_content: telemetry.TraceContent = False,
    open_metrics: telemetry.OpenMetrics = False,
    json: Annotated[
        bool, typer.Option("--json", help="Write start-up lines as JSON on stderr.")
    ] = False,
    *,
    limits: Mapping[str, Any],
) -> None:
    """Serve a packaged model: OpenAI's routes under /v1 and MLflow's /invocations.

    [bold]Examples[/]

    mooring serve models:/demo@champion

    mooring serve models:/demo/1 --port 9000 --served-model-name gpt-demo

    mooring serve --config mooring.yaml

    mooring serve models:/demo@champion --engine upstream --upstream-preset vllm
    """
    from mooring.api.keys import keys_of
    from mooring.api.serve import serve as serve_model
    from mooring.settings import AccessSettings, EngineSettings, ServerSettings

    settings = ServerSettings(
        host=host,
        port=port,
        served_model_names=tuple(served_model_name or ()),
        tls_cert=tls_cert,
        tls_key=tls_key,
        tool_format=tool_format,
        reasoning_format=reasoning_format,
        engine=EngineSettings(
            engine,
            device,
            dtype,
            max_context,
            max_running,
            hang_seconds,
            cache_bytes,
            prefix_cache=prefix_cache,
            prompt_lookup=prompt_lookup,
            upstream=upstream.upstream_settings(
                engine, upstream_preset, upstream_command, upstream_url, upstream_start_seconds
            ),
            conversion=conversion,
        ),
        limits=service_limits(limits),
        server=server_limits(limits),
        access=AccessSettings(
            keys_of(api_key or ()),
            api_keys_file,
            tuple(allowed_host or ()),
            tuple(cors_origin or ()),
            open_metrics,
        ),
        telemetry=telemetry.telemetry_settings(
            otlp_endpoint, trace_sample_rate, trace_content, os.environ
        ),
    )
    code = serve_model(uri, settings, tracking_uri=tracking_uri, watcher=plain_notes(as_json=json))
    raise typer.Exit(code)
