"""The fast engine for CPUs: a converted model on OpenVINO GenAI, without torch or transformers."""

from mooring.engines.openvino.engine import ConvertedModel, OpenVINOEngine

__all__ = ["ConvertedModel", "OpenVINOEngine"]
