"""What a request body asks for, whichever form it had."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mooring.generation import PromptInput, SamplingParams, TextRequest


@dataclass(frozen=True, slots=True)
class Call:
    """Prompts, and the sampling parameters that the client set (unchecked)."""

    prompts: tuple[PromptInput, ...]
    parameters: Mapping[str, Any]

    def requests(self, sampling: SamplingParams) -> list[TextRequest]:
        """Return one request per prompt."""
        return [TextRequest(prompt, sampling) for prompt in self.prompts]
