"""The server under load and under attack: what it must bear, run by run, against a real process."""
