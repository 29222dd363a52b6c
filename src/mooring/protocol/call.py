"""What a request body asks for, whichever form it had."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mooring.generation import (
    NO_LOGPROBS,
    Grammar,
    LogprobsWanted,
    PromptInput,
    SamplingParams,
    TextRequest,
)


@dataclass(frozen=True, slots=True)
class Call:
    """Prompts, sampling parameters as the client set them (unchecked), and what answers must be.

    With `echo` they begin with the prompt; with `echo_only` they are nothing else. With `best_of`
    so many are generated for each prompt, and the best answer. With `prompt_logprobs` each answer
    tells how likely its prompt is, with so many of the most likely tokens. The rest is as in
    `TextRequest`.
    """

    prompts: tuple[PromptInput, ...]
    parameters: Mapping[str, Any]
    grammar: Grammar | None = field(default=None, kw_only=True)
    marks: tuple[str, ...] = field(default=(), kw_only=True)
    logprobs: LogprobsWanted = field(default=NO_LOGPROBS, kw_only=True)
    echo: bool = field(default=False, kw_only=True)
    echo_only: bool = field(default=False, kw_only=True)
    best_of: int | None = field(default=None, kw_only=True)
    most_prompt_tokens: int | None = field(default=None, kw_only=True)
    needs_ids: bool = field(default=False, kw_only=True)
    prompt_logprobs: int | None = field(default=None, kw_only=True)
    add_special_tokens: bool | None = field(default=None, kw_only=True)
    cache_salt: str = field(default="", kw_only=True)

    def requests(self, sampling: SamplingParams) -> list[TextRequest]:
        """Return one request per prompt."""
        if self.echo_only:
            sampling = replace(sampling, max_tokens=0)
        logprobs = self.logprobs
        if self.best_of is not None:
            sampling = replace(sampling, n=self.best_of)
            logprobs = replace(logprobs, answer=logprobs.answer or 0)
        if self.prompt_logprobs is not None:
            logprobs = replace(logprobs, prompt=max(logprobs.prompt or 0, self.prompt_logprobs))
        return [
            TextRequest(
                prompt,
                sampling,
                self.grammar,
                self.marks,
                logprobs,
                self.echo,
                self.most_prompt_tokens,
                self.needs_ids,
                self.add_special_tokens,
                self.cache_salt,
            )
            for prompt in self.prompts
        ]
