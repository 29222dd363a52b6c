"""Sampling parameters in the library's words, and answers that were begun before."""

import secrets
from collections import deque
from collections.abc import Collection, Iterable
from itertools import repeat
from typing import TYPE_CHECKING, Any

from mooring.engines.sequence import Sequence
from mooring.errors import RequestFailed
from mooring.generation import LEAST_LOGPROB, Failed, Finished, Likelihood, SamplingParams

if TYPE_CHECKING:
    from openvino_genai import GenerationConfig

UNSUPPORTED = ("logit_bias", "allowed_token_ids", "bad_words")

_SEEDS = 2**64
# No token has this id. Without any end token the library would take -1 for one, and fail.
_NEVER = 2**31 - 1
# The library takes less than one; only the most likely token is left at both.
_MOST_MIN_P = 0.9999


class Answer:
    """One sequence with what the library has to be asked for it.

    An answer begun before goes on from its tokens where that is exact. Draws and penalties depend
    on how the answer began, so there it is generated again from the start: what was sent already is
    compared and not sent twice.
    """

    def __init__(self, sequence: Sequence, end_token_ids: Collection[int]) -> None:
        self.sequence = sequence
        self._end_token_ids = end_token_ids
        request = sequence.request
        again = bool(request.generated_ids) and not _goes_on(request.sampling)
        self._sent_before = deque(request.generated_ids if again else ())
        self.input_ids = request.prompt_ids if again else request.input_ids
        known = 0 if again else len(request.generated_ids)
        self.most_tokens = sequence.max_tokens - known
        self.least_tokens = max(0, request.sampling.min_tokens - known)

    def configure(self) -> "GenerationConfig":
        """Return the library's configuration of this answer."""
        from openvino_genai import GenerationConfig

        config = GenerationConfig()
        for name, value in self._values().items():
            setattr(config, name, value)
        return config

    def take(self, token_ids: Iterable[int], logprobs: Iterable[float] = ()) -> None:
        """Push tokens as they come, and end at an end token, the limit, or a difference.

        `logprobs` are theirs, by the model's raw scores; they count only where they are asked for.
        """
        asked = self.sequence.request.logprobs.answer is not None
        told = logprobs if asked else repeat(None)
        for token_id, logprob in zip(token_ids, told, strict=False):
            likelihood = None if logprob is None else Likelihood(max(logprob, LEAST_LOGPROB))
            if self.sequence.ended:
                return
            if not self._sent_before:
                self.sequence.push(token_id, self._end_token_ids, likelihood)
                if self.least_tokens and token_id in self.sequence.request.sampling.stop_token_ids:
                    self.sequence.end(Finished("stop"))
            elif token_id != self._sent_before.popleft():
                self.sequence.end(Failed(RequestFailed(
                    "The answer that was begun could not be repeated with the same tokens. "
                    "Send the request again."
                )))  # fmt: skip

    def _values(self) -> dict[str, Any]:
        sampling = self.sequence.request.sampling
        values: dict[str, Any] = {
            "max_new_tokens": self.most_tokens,
            "ignore_eos": sampling.ignore_eos,
            "repetition_penalty": sampling.repetition_penalty,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
        }
        if self.sequence.request.logprobs.answer is not None:
            values["logprobs"] = 1
        values |= self._ends()
        if sampling.greedy:
            return values
        if sampling.top_k:
            values["top_k"] = sampling.top_k
        seed = secrets.randbits(64) if sampling.seed is None else sampling.seed % _SEEDS
        return values | {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "min_p": min(sampling.min_p, _MOST_MIN_P),
            "rng_seed": seed,
        }

    def _ends(self) -> dict[str, Any]:
        """Return which tokens end the answer, and before how many tokens none of them may come.

        A request's own stop tokens are looked for by the service: here they matter only while they
        may not come.
        """
        sampling = self.sequence.request.sampling
        ends = set(() if sampling.ignore_eos else self._end_token_ids)
        early = ends.union(sampling.stop_token_ids) if self.least_tokens else ends
        ids = early or {_NEVER}
        least = {"min_new_tokens": self.least_tokens} if early and self.least_tokens else {}
        return {"stop_token_ids": ids, "eos_token_id": min(ids), **least}


def _goes_on(sampling: SamplingParams) -> bool:
    """Whether the next token depends on the tokens so far, and not on which of them are prompt."""
    penalised = sampling.presence_penalty or sampling.frequency_penalty
    return (sampling.greedy or sampling.seed is None) and not penalised
