"""What is seen of a server: log lines, metrics and traces."""
