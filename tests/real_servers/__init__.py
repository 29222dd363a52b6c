"""The upstream engine in front of real servers, each in an environment of its own."""
