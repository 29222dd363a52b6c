"""Tests of Mooring: mirrors src/mooring."""
