"""One answer of a server while it comes: its messages in, events out, as the contract has them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mooring.engines.upstream.connection import ConnectionLost
from mooring.engines.upstream.dialect import Dialect, NotUnderstood, Piece, Question
from mooring.generation import Finished, FinishReason, GenerationRequest, Likelihood, Text, Token


class Answer:
    """Goes on where a request was before.

    What is certain to follow is asked for as a longer prompt. What depends on how the beginning was
    chosen (seeds, penalties on the answer) is generated again from the start, and the beginning,
    which must be the same, is not sent twice.
    """

    def __init__(
        self,
        request: GenerationRequest,
        dialect: Dialect,
        *,
        max_tokens: int,
        end_token_ids: tuple[int, ...],
    ) -> None:
        self._request = request
        self._max_tokens = max_tokens
        self._dialect = dialect
        self._at_once = request.needs_ids and dialect.ids_at_once
        self._says_text = dialect.writes_text and not self._at_once
        self._end_token_ids = end_token_ids
        self._again = request.generated_ids if _must_repeat(request, self._says_text) else ()
        self._seen = 0
        self._counted = 0
        self._finish: FinishReason | None = None
        self._cached_tokens = 0
        self._generated_tokens: int | None = None
        self._end_token: int | None = None
        self.complete = False

    @property
    def input_ids(self) -> tuple[int, ...]:
        """What the server reads first."""
        return self._request.prompt_ids if self._again else self._request.input_ids

    def question(self, text: str, model: str | None) -> Question:
        """Return what to ask the server; `text` is that of `input_ids`, where it is needed."""
        done = 0 if self._again else len(self._request.generated_ids)
        return Question(
            input_ids=self.input_ids,
            text=text,
            max_tokens=self._max_tokens - done,
            sampling=self._request.sampling,
            end_token_ids=self._end_token_ids,
            model=model,
            logprobs=self._request.logprobs.answer,
            grammar=self._request.grammar,
            at_once=self._at_once,
            min_tokens=max(0, self._request.sampling.min_tokens - done),
        )

    def take(self, message: Mapping[str, Any]) -> Iterator[Token | Text]:
        """Read a message and yield what it brings; raise `NotUnderstood`."""
        try:
            piece = self._dialect.read(message, self._seen)
        except (LookupError, TypeError, AttributeError) as error:
            raise NotUnderstood(f"an event lacks what it should have ({error!r})") from None
        self._cached_tokens = max(self._cached_tokens, piece.cached_tokens)
        self._generated_tokens = piece.generated_tokens or self._generated_tokens
        self._finish = piece.finish or self._finish
        if piece.text:
            self._counted += 1
            yield Text(piece.text)
        yield from self._tokens(piece)

    def end(self) -> Iterator[Text | Finished]:
        """Yield how the answer ended; raise `ConnectionLost` if it just broke off."""
        finish = self._finish if self._end_token is None else "stop"
        if finish is None:
            raise ConnectionLost("the answer has no end")
        if self._says_text and self._generated_tokens is not None:
            yield Text("", self._generated_tokens - self._counted)
        yield Finished(finish, self._cached_tokens, self._end_token)

    def _bounded(self, likelihood: Likelihood | None) -> Likelihood | None:
        """Keep as many of the most likely tokens as were asked for: servers may add the token."""
        most = self._request.logprobs.answer
        if likelihood is None or most is None:
            return None
        return replace(likelihood, top=likelihood.top[:most])

    def _tokens(self, piece: Piece) -> Iterator[Token]:
        likelihoods = piece.likelihoods or (None,) * len(piece.token_ids)
        if len(likelihoods) != len(piece.token_ids):
            raise NotUnderstood("it told other log-probabilities than of the tokens it gave")
        for token_id, likelihood in zip(piece.token_ids, likelihoods, strict=True):
            if self._end_token is not None:
                self.complete = True
                return
            position, self._seen = self._seen, self._seen + 1
            if token_id in self._end_token_ids and not self._request.sampling.ignore_eos:
                self._end_token = token_id
            elif position >= len(self._again):
                yield Token(token_id, self._bounded(likelihood))
            elif token_id != self._again[position]:
                raise NotUnderstood("it began the answer in another way than before")


def _must_repeat(request: GenerationRequest, says_text: bool) -> bool:
    sampling = request.sampling
    if says_text or not sampling.repeatable:
        return False
    certain = sampling.greedy or sampling.top_k == 1
    penalised = sampling.presence_penalty or sampling.frequency_penalty
    return not certain or bool(penalised) or request.grammar is not None
