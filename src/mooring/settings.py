"""Frozen settings, made only at the edge: nothing below reads the environment."""

from dataclasses import dataclass, field
from typing import Literal

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine runs a model.

    `dtype` overrides what the artifact asks for, `context_length` (tokens) may only shorten the
    model's own, `max_running` bounds the sequences that run side by side. `hang_seconds` is how
    long an engine in a process of its own may work without a step before it is restarted.
    `cache_bytes` bounds the keys and values in memory, None for half of the free memory; with
    `prefix_cache` those that no running sequence needs are kept for prompts that begin the same.
    With `prompt_lookup` a sequence that runs alone may get several tokens a step, where it repeats.
    """

    name: Literal["auto", "transformers", "echo"] = "auto"
    device: Device = "auto"
    dtype: Dtype | None = None
    context_length: int | None = None
    max_running: int = 32
    hang_seconds: float = 10.0
    cache_bytes: int | None = None
    prefix_cache: bool = True
    prompt_lookup: bool = True


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What the service lets in at once: sequences waiting for the engine, and rows in one call."""

    max_waiting: int = 64
    max_rows: int = 64


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where and how `mooring serve` listens; sizes in bytes, times in seconds."""

    host: str = "127.0.0.1"
    port: int = 8000
    served_model_names: tuple[str, ...] = ()
    max_body_bytes: int = 1_000_000
    drain_seconds: float = 30.0
    engine: EngineSettings = field(default_factory=EngineSettings)
    limits: ServiceLimits = field(default_factory=ServiceLimits)
