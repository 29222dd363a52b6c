"""What is deployed: pure data, no I/O beyond its own JSON."""
