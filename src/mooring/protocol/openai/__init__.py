"""OpenAI's bodies: what clients send, and how they are answered."""
