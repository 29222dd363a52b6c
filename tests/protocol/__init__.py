"""Tests of mooring.protocol."""
