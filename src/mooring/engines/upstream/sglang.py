"""SGLang: its own `/generate`, which takes and gives token ids."""

from collections.abc import Mapping
from typing import Any

from mooring.engines.upstream.dialect import Dialect, Piece, Question, finish_of
from mooring.generation import Grammar


class Sglang(Dialect):
    """SGLang's `/generate`; its seeds work only with a switch for the whole server."""

    path = "/generate"
    unsupported = ("seed", "bad_words")
    grammars = ("json_object", "json_schema", "regex")

    def body(self, question: Question) -> dict[str, Any]:
        """Ask with every parameter, so that no default of the server's takes part."""
        sampling = question.sampling
        return {
            "input_ids": list(question.input_ids),
            "sampling_params": {
                "max_new_tokens": question.max_tokens,
                "temperature": 0.0 if sampling.greedy else sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k or -1,
                "min_p": sampling.min_p,
                "repetition_penalty": sampling.repetition_penalty,
                "presence_penalty": sampling.presence_penalty,
                "frequency_penalty": sampling.frequency_penalty,
                "logit_bias": {str(token): bias for token, bias in sampling.logit_bias} or None,
                "ignore_eos": sampling.ignore_eos,
                **_kept_to(question.grammar),
            },
            "stream": True,
        }

    def read(self, message: Mapping[str, Any], seen: int) -> Piece:
        """Read a chunk, which has all ids so far or only the new ones, as the server was told."""
        about = message["meta_info"]
        new = about["completion_tokens"] - seen
        reason = about.get("finish_reason") or {}
        return Piece(
            token_ids=tuple(message["output_ids"][-new:]) if new > 0 else (),
            finish=finish_of(reason.get("type")),
            cached_tokens=about.get("cached_tokens") or 0,
        )


def _kept_to(grammar: Grammar | None) -> dict[str, str]:
    if grammar is None:
        return {}
    if grammar.kind == "regex":
        return {"regex": grammar.source}
    return {"json_schema": grammar.source or '{"type": "object"}'}
