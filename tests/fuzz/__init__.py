"""What nobody thought of: bodies and bytes made up at random, against a real server."""
