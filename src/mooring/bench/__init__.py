"""How fast something answers: one work list for every engine and server, measured side by side."""
