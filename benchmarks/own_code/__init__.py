"""A model with code of its own, written as its author would put it on a hub."""
