"""llama.cpp's server: token ids in, text out."""

import json
from collections.abc import Mapping
from typing import Any

from mooring.engines.upstream.dialect import Dialect, NotUnderstood, Piece, Question
from mooring.generation import FinishReason

# The seed that the server takes for "any".
_RANDOM_SEED = 2**32 - 1
_FINISHES: Mapping[str, FinishReason] = {"eos": "stop", "limit": "length"}


class LlamaCpp(Dialect):
    """llama.cpp's own `/completion`.

    It streams token ids too, but leaves out those that end within a character, so its text is
    read. Its presence and frequency penalties count the prompt as well, which ours do not.
    """

    path = "/completion"
    writes_text = True
    lists_models = False
    unsupported = ("presence_penalty", "frequency_penalty")
    grammars = ("json_object", "json_schema")

    def body(self, question: Question) -> dict[str, Any]:
        """Ask with every parameter, in the order in which Mooring applies them."""
        sampling = question.sampling
        everything = len(question.input_ids) + question.max_tokens
        grammar = question.grammar
        schema = None if grammar is None else json.loads(grammar.source or '{"type": "object"}')
        return {
            "prompt": list(question.input_ids),
            "n_predict": question.max_tokens,
            "samplers": ["penalties", "temperature", "min_p", "top_k", "top_p"],
            "temperature": 0.0 if sampling.greedy else sampling.temperature,
            "min_p": sampling.min_p,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "repeat_penalty": sampling.repetition_penalty,
            "repeat_last_n": everything if sampling.repetition_penalty != 1 else 0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "seed": _RANDOM_SEED if sampling.seed is None else sampling.seed % _RANDOM_SEED,
            "logit_bias": [[token, bias] for token, bias in sampling.logit_bias],
            "ignore_eos": sampling.ignore_eos,
            "cache_prompt": True,
            "stream": True,
            **({} if schema is None else {"json_schema": schema}),
        }

    def read(self, message: Mapping[str, Any], seen: int) -> Piece:
        """Read a piece; the last one says why it is."""
        finish = None
        if message["stop"]:
            finish = _FINISHES.get(message["stop_type"])
            if finish is None:
                raise NotUnderstood("it ended an answer for another reason than eos or limit")
        timings = message.get("timings") or {}
        return Piece(
            text=message["content"],
            finish=finish,
            cached_tokens=timings.get("cache_n") or 0,
            generated_tokens=message["tokens_predicted"] if finish else None,
        )
