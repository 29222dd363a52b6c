"""The openvino engine, on tiny converted models."""
