"""Sequences that arrived together and go through the model side by side."""

from mooring.engines.sequence import Sequence
from mooring.engines.transformers.batch import Batch
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.logprobs import describe, describe_chosen
from mooring.engines.transformers.row import Row
from mooring.engines.transformers.sampling import choose_tokens


class Group:
    """A batch and its rows; a sequence that owes its prompt's log-probabilities must be alone."""

    def __init__(
        self, loaded: LoadedModel, sequences: list[Sequence], end_token_ids: frozenset[int]
    ) -> None:
        prompts = [sequence.request.input_ids for sequence in sequences]
        owes = any(sequence.owes_prompt for sequence in sequences)
        self._batch = Batch(loaded.model, prompts, loaded.vocabulary_size, keep_all=owes)
        self._rows = [Row(loaded, sequence, end_token_ids) for sequence in sequences]
        self._end_token_ids = end_token_ids

    @property
    def running(self) -> list[Sequence]:
        """The sequences that have not ended."""
        return [row.sequence for row in self._rows if not row.sequence.ended]

    def step(self) -> None:
        """Give each sequence that has not ended its next token: run, sample, emit."""
        places = self._leave()
        rows = [self._rows[place] for place in places]
        logits = self._batch.forward()
        if rows and rows[0].sequence.owes_prompt:
            self._tell_prompt(rows[0].sequence)
            if rows[0].sequence.ended:
                return
        chosen = choose_tokens(logits[places], [row.sampler for row in rows])
        tokens = dict(zip(places, chosen, strict=True))
        self._batch.append([tokens.get(place) or 0 for place in range(len(self._rows))])
        wanted = [row.sequence.request.logprobs.answer for row in rows]
        likelihoods = describe_chosen(logits[places], chosen, wanted)
        for row, token_id, likelihood in zip(rows, chosen, likelihoods, strict=True):
            row.take(token_id, self._end_token_ids, likelihood)

    def _tell_prompt(self, sequence: Sequence) -> None:
        request = sequence.request
        begin, told = request.logprobs.prompt_begin, request.prompt_ids
        scores = self._batch.take_all()[begin - 1 : len(told) - 1]
        sequence.read_prompt(describe(scores, told[begin:], request.logprobs.prompt or 0))

    def _leave(self) -> list[int]:
        """Drop the rows that have ended, if the cache can; return the places that go on."""
        places = [place for place, row in enumerate(self._rows) if not row.sequence.ended]
        if len(places) < len(self._rows) and self._batch.keep(places):
            self._rows = [self._rows[place] for place in places]
            return list(range(len(places)))
        return places
