"""llama.cpp's server: token ids in, text out; token ids out at once where they are needed."""

import json
import re
from collections.abc import Mapping
from typing import Any

from mooring.engines.upstream.dialect import (
    NEEDS_TOKENS,
    About,
    Dialect,
    NotUnderstood,
    Piece,
    Question,
)
from mooring.generation import FinishReason

# The seed that the server takes for "any".
_RANDOM_SEED = 2**32 - 1
# The name of a quantisation says its bits per weight: `Q4_K - Medium`, `IQ2_XS`, `MXFP4 MoE`.
_BITS = re.compile(r"(?:Q|FP)(\d)")
_LEAST_BITS_OF_INT8 = 6
_FINISHES: Mapping[str, FinishReason] = {"eos": "stop", "limit": "length"}


class LlamaCpp(Dialect):
    """llama.cpp's own `/completion`.

    It streams token ids too, but leaves out those that end within a character, so its text is
    read. Its presence and frequency penalties count the prompt as well, which ours do not, and with
    its `ignore_eos` the end token is never chosen, where ours goes on past it.
    """

    path = "/completion"
    writes_text = ids_at_once = True
    unsupported = (*NEEDS_TOKENS, "presence_penalty", "frequency_penalty", "ignore_eos")
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
            "cache_prompt": True,
            "stream": not question.at_once,
            "return_tokens": question.at_once,
            **({} if schema is None else {"json_schema": schema}),
        }

    def read(self, message: Mapping[str, Any], seen: int) -> Piece:
        """Read a piece; the last one says why it is, the only one has the token ids too."""
        finish = None
        if message["stop"]:
            finish = _FINISHES.get(message["stop_type"])
            if finish is None:
                raise NotUnderstood("it ended an answer for another reason than eos or limit")
        timings = message.get("timings") or {}
        token_ids = tuple(message.get("tokens") or ()) if finish else ()
        return Piece(
            token_ids=token_ids,
            text="" if token_ids else message["content"],
            finish=finish,
            cached_tokens=timings.get("cache_n") or 0,
            generated_tokens=message["tokens_predicted"] if finish else None,
        )

    def about(self, model: Mapping[str, Any]) -> About:
        """Return the context of a sequence, and what the weights were quantised to."""
        meta = model.get("meta")
        told = meta if isinstance(meta, dict) else {}
        context, kind = told.get("n_ctx"), told.get("ftype")
        return About(
            context_length=context if isinstance(context, int) else None,
            precision=_precision(kind) if isinstance(kind, str) else "upstream",
        )


def _precision(kind: str) -> str:
    """Return the precision of a kind of GGUF file, in our words; others may be anything."""
    bits = _BITS.search(kind)
    if bits is None:
        return "upstream"
    return "int8" if int(bits[1]) >= _LEAST_BITS_OF_INT8 else "int4"
