"""Any OpenAI-compatible server: completions as text, with the parameters that OpenAI names."""

from collections.abc import Mapping
from typing import Any

from mooring.engines.upstream.dialect import NEEDS_TOKENS, Dialect, Piece, Question, finish_of


class OpenAIText(Dialect):
    """The part of `/v1/completions` that every server has."""

    path = "/v1/completions"
    takes_text = writes_text = True
    unsupported = (*NEEDS_TOKENS, "top_k", "min_p", "repetition_penalty", "ignore_eos")

    def body(self, question: Question) -> dict[str, Any]:
        """Ask for text."""
        sampling = question.sampling
        body: dict[str, Any] = {
            "model": question.model,
            "prompt": question.text,
            "max_tokens": question.max_tokens,
            "temperature": 0.0 if sampling.greedy else sampling.temperature,
            "top_p": sampling.top_p,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.logit_bias:
            body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
        return body

    def read(self, message: Mapping[str, Any], seen: int) -> Piece:
        """Read a chunk; the last one may have the usage and no choice."""
        usage = message.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        choice = (message.get("choices") or [{}])[0]
        return Piece(
            text=choice.get("text") or "",
            finish=finish_of(choice.get("finish_reason")),
            cached_tokens=details.get("cached_tokens") or 0,
            generated_tokens=usage.get("completion_tokens"),
        )
