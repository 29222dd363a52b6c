"""Grammars that answers keep to: checked before a request is let in, compiled for an engine."""

from mooring.engines.grammars.check import GrammarCheck

__all__ = ["GrammarCheck"]
