"""The tools that torment a server tell right from wrong."""
