"""How calls of tools are read."""
