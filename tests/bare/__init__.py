"""Python as it is where torch and transformers are not installed."""
