"""From an artifact to a running engine."""
