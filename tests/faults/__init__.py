"""What goes wrong, one file per family: only what must fails, and nothing is left behind."""
