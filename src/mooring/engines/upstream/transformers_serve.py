"""`transformers serve`: text both ways, generation settings as one JSON text."""

import json
from collections.abc import Mapping
from typing import Any

from mooring.engines.upstream.dialect import NEEDS_TOKENS, Dialect, Piece, Question, finish_of


class TransformersServe(Dialect):
    """The `/v1/completions` of `transformers serve`.

    Its own `seed` is that of the whole process and its `frequency_penalty` another penalty, so
    neither is used.
    """

    path = "/v1/completions"
    takes_text = writes_text = True
    lists_models = False
    unsupported = (*NEEDS_TOKENS, "seed", "presence_penalty", "frequency_penalty", "ignore_eos")

    def body(self, question: Question) -> dict[str, Any]:
        """Ask with a whole generation config, so that none of the model's own takes part."""
        return {
            "prompt": question.text,
            "stream": True,
            "generation_config": json.dumps(_generation_config(question)),
        }

    def read(self, message: Mapping[str, Any], seen: int) -> Piece:
        """Read a chunk; the last one has the reason and the usage."""
        usage = message.get("usage") or {}
        choice = message["choices"][0]
        return Piece(
            text=choice.get("text") or "",
            finish=finish_of(choice.get("finish_reason")),
            generated_tokens=usage.get("completion_tokens"),
        )


def _generation_config(question: Question) -> dict[str, Any]:
    sampling = question.sampling
    config: dict[str, Any] = {
        "max_new_tokens": question.max_tokens,
        "do_sample": not sampling.greedy,
        "eos_token_id": list(question.end_token_ids) or None,
        "pad_token_id": question.end_token_ids[0] if question.end_token_ids else 0,
        "repetition_penalty": sampling.repetition_penalty,
    }
    if not sampling.greedy:
        config |= {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p or None,
        }
    if sampling.logit_bias:
        config["sequence_bias"] = [[[token], bias] for token, bias in sampling.logit_bias]
    return config
