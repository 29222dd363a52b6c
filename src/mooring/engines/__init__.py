"""Tokens come from here: one contract, several engines."""
