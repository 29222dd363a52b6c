"""vLLM: OpenAI's completions with token ids both ways."""

import json
from collections.abc import Mapping
from typing import Any

from mooring.engines.upstream.dialect import Dialect, NotUnderstood, Piece, Question, finish_of
from mooring.generation import LEAST_LOGPROB, MAX_TOP_LOGPROBS, Grammar, Likelihood

_TOKEN = "token_id:"


class Vllm(Dialect):
    """vLLM's `/v1/completions`, which knows every sampling parameter."""

    path = "/v1/completions"
    top_logprobs = MAX_TOP_LOGPROBS
    grammars = ("json_object", "json_schema", "regex", "choice")

    def body(self, question: Question) -> dict[str, Any]:
        """Ask with every parameter, so that no default of the server's takes part."""
        sampling = question.sampling
        return {
            "model": question.model,
            "prompt": list(question.input_ids),
            "max_tokens": question.max_tokens,
            "min_tokens": question.min_tokens,
            "stop_token_ids": list(sampling.stop_token_ids) if question.min_tokens else None,
            "allowed_token_ids": list(sampling.allowed_token_ids) or None,
            "bad_words": list(sampling.bad_words),
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
            "logprobs": question.logprobs,
            "return_tokens_as_token_ids": None if question.logprobs is None else True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **_kept_to(question.grammar),
        }

    def read(self, message: Mapping[str, Any], seen: int) -> Piece:
        """Read a chunk; the last one has the usage and no choice."""
        usage = message.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        choice = (message.get("choices") or [{}])[0]
        return Piece(
            token_ids=tuple(choice.get("token_ids") or ()),
            likelihoods=_likelihoods(choice.get("logprobs")),
            finish=finish_of(choice.get("finish_reason")),
            cached_tokens=details.get("cached_tokens") or 0,
        )


def _likelihoods(told: Mapping[str, Any] | None) -> tuple[Likelihood, ...]:
    """Read what is told of each token: its own log-probability, and those of the most likely."""
    if not told:
        return ()
    tops = told.get("top_logprobs") or [None] * len(told["token_logprobs"])
    return tuple(
        Likelihood(max(own, LEAST_LOGPROB), _top(top or {}))
        for own, top in zip(told["token_logprobs"], tops, strict=True)
    )


def _top(told: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    best = sorted(told.items(), key=lambda one: -one[1])
    return tuple((_token_id(name), max(value, LEAST_LOGPROB)) for name, value in best)


def _token_id(name: str) -> int:
    if not name.startswith(_TOKEN) or not name.removeprefix(_TOKEN).isdigit():
        raise NotUnderstood("it names tokens by their texts where it was asked for their ids")
    return int(name.removeprefix(_TOKEN))


def _kept_to(grammar: Grammar | None) -> dict[str, Any]:
    if grammar is None:
        return {}
    outputs: dict[str, Any] = {"regex": grammar.source}
    match grammar.kind:
        case "json_object":
            outputs = {"json_object": True}
        case "json_schema":
            outputs = {"json": json.loads(grammar.source)}
        case "choice":
            outputs = {"choice": json.loads(grammar.source)}
    return {"structured_outputs": outputs}
