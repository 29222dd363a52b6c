"""Tokens from another server, started and watched by us or already running: vLLM and others."""

from mooring.engines.upstream.engine import UpstreamEngine

__all__ = ["UpstreamEngine"]
