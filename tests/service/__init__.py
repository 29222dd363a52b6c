"""Tests of mooring.service."""
