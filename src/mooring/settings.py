"""Frozen settings, made only at the edge: nothing below reads the environment."""

from dataclasses import dataclass, field
from typing import Any, Literal

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
EngineName = Literal["auto", "transformers", "openvino", "upstream", "echo"]
WeightFormat = Literal["int8", "int4", "fp16"]


ToolFormatName = Literal["auto", "hermes", "llama3", "mistral", "none"]
ReasoningFormatName = Literal["auto", "think", "none"]
UpstreamKind = Literal["vllm", "sglang", "llama.cpp", "transformers", "openai"]


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """Another server that generates the tokens.

    `command` starts it, or it runs at `url`; with neither, the command is the usual one of its
    `kind`. `kind` says how to speak to it; None finds that out from the command. It must be ready
    within `start_seconds`. `api_key` is sent to it and never shown.
    """

    kind: UpstreamKind | None = None
    command: str | None = None
    url: str | None = None
    start_seconds: float = 600.0
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine runs a model.

    `dtype` overrides what the artifact asks for, `context_length` (tokens) may only shorten the
    model's own, `max_running` bounds the sequences that run side by side. `hang_seconds` is how
    long an engine in a process of its own may work without a step before it is restarted.
    `cache_bytes` bounds the keys and values in memory, None for half of the free memory; with
    `prefix_cache` those that no running sequence needs are kept for prompts that begin the same.
    With `prompt_lookup` a sequence that runs alone may get several tokens a step, where it repeats.
    `upstream` says which server the upstream engine uses. `conversion` says which of the model's
    conversions the openvino engine runs; None for int8 where there is one.
    """

    name: EngineName = "auto"
    device: Device = "auto"
    dtype: Dtype | None = None
    context_length: int | None = None
    max_running: int = 32
    hang_seconds: float = 10.0
    cache_bytes: int | None = None
    prefix_cache: bool = True
    prompt_lookup: bool = True
    upstream: UpstreamSettings | None = None
    conversion: WeightFormat | None = None


def _limit(default: float, meaning: str, *, low: float = 1, high: float | None = None) -> Any:
    """Declare a limit: options, documentation and checks are made from what it says here."""
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high})


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What the service lets in, and how long an answer may take; times in seconds.

    The bounds of single fields (`max_n`, `max_stop`, `max_messages`) can only be lowered.
    """

    max_waiting: int = _limit(64, "Sequences that may wait for the engine.", low=0)
    max_waiting_tokens: int = _limit(65_536, "Prompt tokens that may wait with them.", low=0)
    max_rows: int = _limit(64, "Prompts or rows in one call.")
    max_messages: int = _limit(1024, "Messages in one conversation.", high=1024)
    max_n: int = _limit(8, "Completions per prompt.", high=8)
    max_stop: int = _limit(4, "Stop strings of one request.", low=0, high=4)
    first_token_seconds: float = _limit(120.0, "Time to the first token of an answer.", low=0.1)
    token_seconds: float = _limit(30.0, "Time from one token to the next.", low=0.1)
    request_seconds: float = _limit(600.0, "Time for a whole answer.", low=0.1)


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What the server takes from one connection, and how it ends; sizes in bytes, times in seconds.

    A reader is given up when more than `max_buffered_events` wait for it and it takes none for a
    second, or when it takes no byte for `stalled_seconds`.
    """

    max_body_bytes: int = _limit(1_000_000, "Largest body of a request.", low=1024)
    body_seconds: float = _limit(10.0, "Time for a body to arrive.", low=0.1)
    max_header_bytes: int = _limit(65_536, "Largest request line with headers.", low=1024)
    header_seconds: float = _limit(10.0, "Time for request line and headers to arrive.", low=0.1)
    max_connections: int = _limit(512, "Connections open at once.")
    max_buffered_events: int = _limit(256, "Events that may wait for a slow reader.")
    stalled_seconds: float = _limit(30.0, "Time that a reader may take nothing.", low=0.1)
    drain_delay: float = _limit(
        0.0, "Time after a stop signal in which new requests are still taken.", low=0
    )
    drain_seconds: float = _limit(
        30.0, "Time for running requests after a stop signal and its delay.", low=0
    )


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key by its SHA-256 (hexadecimal), and what its holder may have; None is no limit.

    `tokens_per_minute` counts prompts and answers, `models` are names that the server serves.
    `metrics` lets it read the metrics, which tell of all keys.
    """

    name: str
    sha256: str
    max_concurrent: int | None = None
    tokens_per_minute: int | None = None
    models: tuple[str, ...] | None = None
    metrics: bool = False


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may use the server; without keys, whoever reaches its port.

    `allowed_hosts` are the names that it answers to, besides its own; `cors_origins` the sites
    whose pages may use it. With `open_metrics` anybody may read the metrics, without a key.
    """

    keys: tuple[ApiKey, ...] = ()
    keys_file: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    open_metrics: bool = False


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What others are told of requests.

    `otlp_spans` and `otlp_metrics` go over OTLP/HTTP to `otlp_endpoint`, or where the standard
    variables say if it is None. Of all requests, the share `trace_sample_rate` (0 to 1) becomes
    traces of the logged model in MLflow. Prompts and answers are part of a trace only with
    `trace_content`.
    """

    otlp_spans: bool = False
    otlp_metrics: bool = False
    otlp_endpoint: str | None = None
    trace_sample_rate: float = 0.0
    trace_content: bool = False


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where and how `mooring serve` listens: with TLS where a certificate and its key are given.

    `tool_format` is how the model writes calls of tools: "auto" asks its chat template, with "none"
    they stay text. `reasoning_format` is how it writes thoughts, likewise.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    served_model_names: tuple[str, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    tool_format: ToolFormatName = "auto"
    reasoning_format: ReasoningFormatName = "auto"
    engine: EngineSettings = field(default_factory=EngineSettings)
    limits: ServiceLimits = field(default_factory=ServiceLimits)
    server: ServerLimits = field(default_factory=ServerLimits)
    access: AccessSettings = field(default_factory=AccessSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK_NAMES
