"""What a chat template knows of thoughts: text before an answer, between tags, not meant to be read
as the answer.
"""

OPENS, CLOSES = "<think>", "</think>"


def knows_thoughts(template: str | None) -> bool:
    """Whether the model of a chat template may write thoughts: its template cuts or writes them."""
    return template is not None and CLOSES in template


def is_thinking(prompt: str) -> bool:
    """Whether a prompt ends within a thought, which the model goes on with."""
    return prompt.rfind(OPENS) > prompt.rfind(CLOSES)
