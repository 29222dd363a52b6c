"""Tests of engines in child processes."""
