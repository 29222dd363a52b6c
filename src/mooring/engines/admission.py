"""What an engine refuses before it begins: requests that could only fail later."""

from mooring.engines.contract import Capabilities
from mooring.errors import (
    ContextExceeded,
    InvalidParameter,
    InvalidPrompt,
    UnsupportedParameter,
)
from mooring.generation import MAX_TOP_LOGPROBS, GenerationRequest, SamplingParams

_UNSET = SamplingParams()


def check_request(request: GenerationRequest, capabilities: Capabilities) -> int:
    """Return how many tokens to generate at most, or raise an `InvalidInput`."""
    _check_prompt(request, capabilities)
    _check_logit_bias(request, capabilities.vocabulary_size)
    _check_support(request.sampling, capabilities)
    capabilities.check_grammar(request.grammar, request.sampling)
    _check_logprobs(request, capabilities)
    room = capabilities.context_length - len(request.prompt_ids)
    max_tokens = room if request.sampling.max_tokens is None else request.sampling.max_tokens
    if max_tokens > room:
        raise InvalidParameter(
            f"`max_tokens` must be <= {room} after this prompt: the context has "
            f"{capabilities.context_length} tokens, the prompt {len(request.prompt_ids)}. "
            f"Given: {max_tokens}. Lower it or shorten the prompt.",
            param="max_tokens",
        )
    if request.generated_ids and len(request.generated_ids) >= max_tokens:
        raise InvalidParameter(
            f"`max_tokens` must be > {len(request.generated_ids)}, the tokens generated before. "
            f"Given: {max_tokens}. This answer is complete.",
            param="max_tokens",
        )
    return max_tokens


def _check_prompt(request: GenerationRequest, capabilities: Capabilities) -> None:
    prompt_ids, vocabulary_size = request.prompt_ids, capabilities.vocabulary_size
    if not prompt_ids:
        raise InvalidPrompt("The prompt must have at least 1 token. Given: 0. Send some text.")
    highest, lowest = max(request.input_ids), min(request.input_ids)
    outside = highest if highest >= vocabulary_size else lowest
    if not 0 <= outside < vocabulary_size:
        raise InvalidPrompt(
            f"Prompt token ids must be >= 0 and < {vocabulary_size}. Given: {outside}. "
            "Use this model's own tokenizer."
        )
    most = capabilities.context_length - (0 if request.sampling.max_tokens == 0 else 1)
    if len(prompt_ids) > most:
        raise ContextExceeded(
            f"The prompt must have < {most + 1} tokens, the model's context. "
            f"Given: {len(prompt_ids)}. Shorten it."
        )


def _check_support(sampling: SamplingParams, capabilities: Capabilities) -> None:
    for name in capabilities.unsupported:
        if getattr(sampling, name) != getattr(_UNSET, name):
            raise UnsupportedParameter(
                f"The {capabilities.name} engine cannot honour `{name}`. Leave it out, or serve "
                "the model with another engine.",
                param=name,
            )


def _check_logprobs(request: GenerationRequest, capabilities: Capabilities) -> None:
    wanted, most = request.logprobs, capabilities.top_logprobs
    if wanted.answer is None and wanted.prompt is None:
        if request.sampling.max_tokens == 0:
            raise InvalidParameter("`max_tokens` must be >= 1. Given: 0.", param="max_tokens")
        return
    if most is None or (wanted.prompt is not None and not capabilities.prompt_logprobs):
        what = "`logprobs`" if most is None else "`logprobs` of a prompt (`echo`)"
        raise UnsupportedParameter(
            f"The {capabilities.name} engine cannot honour {what}. Leave it out, or serve the "
            "model with another engine.",
            param="logprobs",
        )
    given = max(wanted.answer or 0, wanted.prompt or 0)
    if not 0 <= given <= min(most, MAX_TOP_LOGPROBS):
        raise InvalidParameter(
            f"The {capabilities.name} engine names at most {min(most, MAX_TOP_LOGPROBS)} of the "
            f"most likely tokens. Given: {given}. Ask for fewer (`top_logprobs`, `logprobs`), or "
            "serve the model with another engine.",
            param="logprobs",
        )
    if not 1 <= wanted.prompt_begin <= len(request.prompt_ids):
        raise InvalidParameter(
            f"`prompt_begin` must be >= 1 and <= {len(request.prompt_ids)}, the prompt's length. "
            f"Given: {wanted.prompt_begin}.",
            param="prompt_begin",
        )


def _check_logit_bias(request: GenerationRequest, vocabulary_size: int) -> None:
    for token_id, _ in request.sampling.logit_bias:
        if not 0 <= token_id < vocabulary_size:
            raise InvalidParameter(
                f"`logit_bias` token ids must be < {vocabulary_size}, the model's vocabulary. "
                f"Given: {token_id}. Use this model's own tokenizer.",
                param="logit_bias",
            )
