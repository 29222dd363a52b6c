"""What clients say, and how they are answered: pure data, no I/O."""
