"""Tests of mooring.observe."""
