"""vLLM: OpenAI's completions with token ids both ways."""

from collections.abc import Mapping
from typing import Any

from mooring.engines.upstream.dialect import Dialect, Piece, Question, finish_of


class Vllm(Dialect):
    """vLLM's `/v1/completions`, which knows every sampling parameter."""

    path = "/v1/completions"

    def body(self, question: Question) -> dict[str, Any]:
        """Ask with every parameter, so that no default of the server's takes part."""
        sampling = question.sampling
        return {
            "model": question.model,
            "prompt": list(question.input_ids),
            "max_tokens": question.max_tokens,
            "temperature": 0.0 if sampling.greedy else sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "seed": sampling.seed,
            "logit_bias": {str(token): bias for token, bias in sampling.logit_bias} or None,
            "ignore_eos": sampling.ignore_eos,
            "return_token_ids": True,
            "add_special_tokens": False,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def read(self, message: Mapping[str, Any], seen: int) -> Piece:
        """Read a chunk; the last one has the usage and no choice."""
        usage = message.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        choice = (message.get("choices") or [{}])[0]
        return Piece(
            token_ids=tuple(choice.get("token_ids") or ()),
            finish=finish_of(choice.get("finish_reason")),
            cached_tokens=details.get("cached_tokens") or 0,
        )
