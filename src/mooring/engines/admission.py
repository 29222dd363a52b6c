"""What an engine refuses before it begins: requests that could only fail later."""

from mooring.engines.contract import Capabilities
from mooring.errors import ContextExceeded, InvalidParameter, InvalidPrompt
from mooring.generation import GenerationRequest


def check_request(request: GenerationRequest, capabilities: Capabilities) -> int:
    """Return how many tokens to generate at most, or raise an `InvalidInput`."""
    _check_prompt(request, capabilities)
    capabilities.check(request.sampling, request.grammar, request.logprobs)
    _check_logprobs(request)
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


def _check_logprobs(request: GenerationRequest) -> None:
    wanted = request.logprobs
    if wanted.answer is None and wanted.prompt is None:
        if request.sampling.max_tokens == 0:
            raise InvalidParameter("`max_tokens` must be >= 1. Given: 0.", param="max_tokens")
    elif not 1 <= wanted.prompt_begin <= len(request.prompt_ids):
        raise InvalidParameter(
            f"`prompt_begin` must be >= 1 and <= {len(request.prompt_ids)}, the prompt's length. "
            f"Given: {wanted.prompt_begin}.",
            param="prompt_begin",
        )
