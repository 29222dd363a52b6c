"""What a request body asks for, whichever form it had."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mooring.generation import Grammar, PromptInput, SamplingParams, TextRequest


@dataclass(frozen=True, slots=True)
class Call:
    """Prompts, sampling parameters as the client set them (unchecked), and what answers must be."""

    prompts: tuple[PromptInput, ...]
    parameters: Mapping[str, Any]
    grammar: Grammar | None = field(default=None, kw_only=True)
    marks: tuple[str, ...] = field(default=(), kw_only=True)

    def requests(self, sampling: SamplingParams) -> list[TextRequest]:
        """Return one request per prompt."""
        return [TextRequest(prompt, sampling, self.grammar, self.marks) for prompt in self.prompts]
