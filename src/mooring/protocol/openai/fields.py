"""What OpenAI's generating routes share: common fields, and refusals by name."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mooring.errors import InvalidParameter, UnsupportedParameter
from mooring.generation import SAMPLING_FIELDS, PromptInput
from mooring.protocol.body import StrictBody
from mooring.protocol.call import Call
from mooring.protocol.openai.structured import parse_structure
from mooring.protocol.openai.told_tokens import prompt_logprobs_wanted
from mooring.protocol.tool_calls.use import ToolUse

_MAX_ID = 128
REQUEST_ID = rf"[A-Za-z0-9._:-]{{1,{_MAX_ID}}}"
_SAMPLING_NAMES = frozenset(field.name for field in SAMPLING_FIELDS)


@dataclass(frozen=True, slots=True)
class OpenAICall(Call):
    """A call that names its model and says whether to stream.

    Where thoughts are told from what is said, `thinking` says whether the prompt ends within one.
    With `tokens_by_id` log-probabilities name tokens by their ids, with `usage_so_far` every chunk
    has a usage, and without `tells_thoughts` they are left out. `request_id` is the client's own.
    """

    model: str
    stream: bool
    include_usage: bool
    tool_use: ToolUse | None = field(default=None, kw_only=True)
    thinking: bool | None = field(default=None, kw_only=True)
    tokens_by_id: bool = field(default=False, kw_only=True)
    usage_so_far: bool = field(default=False, kw_only=True)
    tells_thoughts: bool = field(default=True, kw_only=True)
    request_id: str | None = field(default=None, kw_only=True)


class _StreamOptions(StrictBody):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationBody(StrictBody):
    """What the bodies share; sampling values are checked by the service, by their own table."""

    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    user: str | None = None

    max_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    top_k: Any = None
    min_p: Any = None
    repetition_penalty: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    seed: Any = None
    stop: Any = None
    logit_bias: Any = None
    ignore_eos: Any = None
    stop_token_ids: Any = None
    min_tokens: Any = None
    allowed_token_ids: Any = None
    bad_words: Any = None
    include_stop_str_in_output: Any = None
    skip_special_tokens: Any = None
    n: Any = None

    truncate_prompt_tokens: Any = None

    response_format: Any = None
    structured_outputs: Any = None

    add_special_tokens: bool | None = None
    cache_salt: str | None = None
    request_id: str | None = None
    length_penalty: Any = None
    logits_processors: Any = None
    priority: Any = None
    prompt_logprobs: Any = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    spaces_between_special_tokens: Any = None
    use_beam_search: Any = None

    def parameters(self) -> dict[str, Any]:
        """Return the sampling parameters that the client set."""
        return {
            name: value
            for name in self.model_fields_set & _SAMPLING_NAMES
            if (value := getattr(self, name)) is not None
        }

    def call(self, prompts: tuple[PromptInput, ...], parameters: Mapping[str, Any]) -> OpenAICall:
        """Return what is asked, with the stream options checked."""
        options = self.stream_options
        if options is not None and not self.stream:
            raise InvalidParameter(
                "`stream_options` may only be given with `stream` = true.", param="stream_options"
            )
        if options is not None and options.include_obfuscation:
            raise _unsupported("stream_options.include_obfuscation", off=(False,))
        if options is not None and options.continuous_usage_stats and not options.include_usage:
            raise InvalidParameter(
                "`stream_options.continuous_usage_stats` may only be given with `include_usage` = "
                "true.",
                param="stream_options.continuous_usage_stats",
            )
        return OpenAICall(
            prompts=prompts,
            parameters=parameters,
            model=self.model,
            stream=bool(self.stream),
            include_usage=bool(options and options.include_usage),
            grammar=parse_structure(self.response_format, self.structured_outputs),
            most_prompt_tokens=_most_prompt_tokens(self.truncate_prompt_tokens),
            needs_ids=bool(self.return_token_ids),
            prompt_logprobs=prompt_logprobs_wanted(self.prompt_logprobs, stream=bool(self.stream)),
            tokens_by_id=bool(self.return_tokens_as_token_ids),
            usage_so_far=bool(options and options.continuous_usage_stats),
            add_special_tokens=self.add_special_tokens,
            cache_salt=_checked_salt(self.cache_salt),
            request_id=_checked_id(self.request_id),
        )


def _most_prompt_tokens(given: Any) -> int | None:
    if given is not None and (type(given) is not int or not (given == -1 or given >= 1)):
        raise InvalidParameter(
            "`truncate_prompt_tokens` must be a whole number >= 1, or -1 for as many as fit. "
            f"Given: {str(given)[:40]}.",
            param="truncate_prompt_tokens",
        )
    return given


def _checked_salt(given: str | None) -> str:
    if given == "":
        raise InvalidParameter("`cache_salt` must not be empty. Leave it out.", param="cache_salt")
    return given or ""


def _checked_id(given: str | None) -> str | None:
    if given is not None and not re.fullmatch(REQUEST_ID, given):
        raise InvalidParameter(
            f"`request_id` must have 1 to {_MAX_ID} letters, digits and any of . _ : -. "
            f"Given: {given[:40]!r}.",
            param="request_id",
        )
    return given


# Fields of vLLM that ask for what is not offered, unless they have one of these values.
VLLM_OFF: dict[str, tuple[Any, ...]] = {
    "length_penalty": (1.0,),
    "logits_processors": ([],),
    "priority": (0,),
    "spaces_between_special_tokens": (True,),
    "use_beam_search": (False,),
}


def refuse_unsupported(body: StrictBody, off: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse what asks for more than is offered: any value but those that `off` has for a field."""
    for name, values in off.items():
        given = getattr(body, name)
        if given is not None and not any(_same(given, value) for value in values):
            raise _unsupported(name, values)


def _same(given: Any, value: Any) -> bool:
    """Compare without taking true for 1 or false for 0."""
    return isinstance(given, bool) == isinstance(value, bool) and bool(given == value)


def _unsupported(name: str, off: tuple[Any, ...]) -> UnsupportedParameter:
    allowed = " or ".join(json.dumps(value) for value in off)
    instead = f" other than {allowed}" if off else ""
    return UnsupportedParameter(f"`{name}`{instead} is not supported. Leave it out.", param=name)
