"""Tests of mooring.http."""
