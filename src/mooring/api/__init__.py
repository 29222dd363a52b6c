"""What the door offers, one file per verb; composes the rooms below."""
