"""The default engine: any `AutoModelForCausalLM`, side by side, with plain transformers."""

from mooring.engines.transformers.engine import TransformersEngine

__all__ = ["TransformersEngine"]
