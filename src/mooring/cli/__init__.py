"""From argv and environment to settings and one call of api."""
