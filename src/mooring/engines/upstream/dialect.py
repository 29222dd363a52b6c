"""What the engine needs to know of a kind of server: how to ask it, and how to read its answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mooring.generation import FinishReason, Grammar, GrammarKind, Likelihood, SamplingParams

NEEDS_TOKENS = (
    "min_tokens",
    "stop_token_ids",
    "allowed_token_ids",
    "bad_words",
    "skip_special_tokens",
)
"""What cannot be honoured where answers come as text."""


class NotUnderstood(Exception):
    """A server answered with something that its dialect does not have; says what."""


@dataclass(frozen=True, slots=True)
class Question:
    """One sequence to ask for.

    `text` is what a server with the model's own tokenizer reads as `input_ids`, only for dialects
    that take text. `model` is the server's own name for it, None if it does not tell. `logprobs` is
    how many of the most likely tokens are wanted with each token's log-probability, None for none.
    With `at_once` the answer comes as one message with its token ids, only from dialects that can.
    """

    input_ids: tuple[int, ...]
    text: str
    max_tokens: int
    sampling: SamplingParams
    end_token_ids: tuple[int, ...]
    model: str | None
    logprobs: int | None = None
    grammar: Grammar | None = None
    at_once: bool = False
    min_tokens: int = 0


@dataclass(frozen=True, slots=True)
class About:
    """What a server tells of its model: its own name for it, context in tokens, precision."""

    name: str | None = None
    context_length: int | None = None
    precision: str = "upstream"


@dataclass(frozen=True, slots=True)
class Piece:
    """What one message of an answer brings; `generated_tokens` counts those of the whole answer.

    `likelihoods` are those of `token_ids`, where they were asked for.
    """

    token_ids: tuple[int, ...] = ()
    likelihoods: tuple[Likelihood, ...] = ()
    text: str = ""
    finish: FinishReason | None = None
    cached_tokens: int = 0
    generated_tokens: int | None = None


class Dialect(ABC):
    """How to speak to one kind of server.

    `takes_text` and `writes_text` say that prompts and answers are text instead of token ids,
    `ids_at_once` that an answer can be had as token ids all the same when it is not streamed,
    `lists_models` that `/v1/models` tells of its model, `unsupported` which sampling parameters it
    cannot honour as they are meant here, `grammars` which kinds of grammar it keeps to,
    `top_logprobs` how many of the most likely tokens it names with log-probabilities of its raw
    scores, None if it has none.
    """

    path: ClassVar[str]
    takes_text: ClassVar[bool] = False
    writes_text: ClassVar[bool] = False
    ids_at_once: ClassVar[bool] = False
    lists_models: ClassVar[bool] = True
    unsupported: ClassVar[tuple[str, ...]] = ()
    top_logprobs: ClassVar[int | None] = None
    grammars: ClassVar[tuple[GrammarKind, ...]] = ()

    @abstractmethod
    def body(self, question: Question) -> dict[str, Any]:
        """Return the request that asks for an answer: streamed, if it may be."""

    @abstractmethod
    def read(self, message: Mapping[str, Any], seen: int) -> Piece:
        """Return what a message brings after `seen` tokens; raise `NotUnderstood`."""

    def about(self, model: Mapping[str, Any]) -> About:
        """Return what the server's list of models says of its first."""
        name, length = model.get("id"), model.get("max_model_len")
        return About(
            name if isinstance(name, str) else None, length if isinstance(length, int) else None
        )


def finish_of(reason: object) -> FinishReason | None:
    """Return why an answer ended, in our words; raise `NotUnderstood` for other reasons."""
    match reason:
        case None | "stop" | "length":
            return reason
    raise NotUnderstood("it ended an answer for another reason than stop or length")
