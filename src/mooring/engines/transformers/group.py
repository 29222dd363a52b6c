"""Sequences that arrived together and go through the model side by side."""

from mooring.engines.sequence import Sequence
from mooring.engines.transformers.batch import Batch
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.sampling import RowSampler, choose_tokens
from mooring.errors import RequestFailed
from mooring.generation import Failed


class Group:
    """A batch, and the sequence and sampler of each of its rows."""

    def __init__(self, loaded: LoadedModel, sequences: list[Sequence]) -> None:
        prompts = [sequence.request.input_ids for sequence in sequences]
        self._batch = Batch(loaded.model, prompts, loaded.vocabulary_size)
        self._sequences = sequences
        self._samplers = [
            RowSampler(
                sequence.request.prompt_ids,
                sequence.request.sampling,
                loaded.vocabulary_size,
                loaded.model.device,
            )
            for sequence in sequences
        ]
        for sequence, sampler in zip(sequences, self._samplers, strict=True):
            sampler.resume(sequence.request.generated_ids)

    @property
    def running(self) -> list[Sequence]:
        """The sequences that have not ended."""
        return [sequence for sequence in self._sequences if not sequence.ended]

    def step(self, end_token_ids: frozenset[int]) -> None:
        """Give each sequence that has not ended its next token: run, sample, emit."""
        rows = self._leave()
        logits = self._batch.forward()
        chosen = choose_tokens(logits[rows], [self._samplers[row] for row in rows])
        tokens = dict(zip(rows, chosen, strict=True))
        self._batch.append([tokens.get(row) or 0 for row in range(len(self._sequences))])
        for row, token_id in tokens.items():
            _emit(self._sequences[row], token_id, end_token_ids)

    def _leave(self) -> list[int]:
        """Drop the rows that have ended, if the cache can; return the rows that go on."""
        rows = [row for row, sequence in enumerate(self._sequences) if not sequence.ended]
        if len(rows) < len(self._sequences) and self._batch.keep(rows):
            self._sequences = [self._sequences[row] for row in rows]
            self._samplers = [self._samplers[row] for row in rows]
            return list(range(len(rows)))
        return rows


def _emit(sequence: Sequence, token_id: int | None, end_token_ids: frozenset[int]) -> None:
    if token_id is None:
        sequence.end(
            Failed(
                RequestFailed(
                    "No token is possible: the model's scores for this request are not finite. "
                    "Change the prompt or the sampling parameters."
                )
            )
        )
    else:
        sequence.push(token_id, end_token_ids)
