"""Tests of the engine that asks another server."""
