"""What a model says, read for calls of tools: one incremental parser per format."""
