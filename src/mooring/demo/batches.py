"""Sorts samples into batches of similar length and pads them into tensors."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mooring.demo.samples import Composer, Sample, encode


@dataclass(frozen=True)
class Batch:
    """Right-padded samples: `token_ids` (rows, columns) and the mask of learned ids."""

    token_ids: Tensor
    learned: Tensor


def endless_batches(
    composer: Composer,
    tokenizer: PreTrainedTokenizerBase,
    generator: random.Random,
    tokens_per_batch: int,
) -> Iterator[Batch]:
    """Yield the batches of one epoch after another, shuffled within each epoch."""
    while True:
        samples = [encode(pieces, tokenizer) for pieces in composer.epoch()]
        batches = list(_of_similar_length(samples, tokens_per_batch))
        generator.shuffle(batches)
        yield from map(padded, batches)


def padded(samples: Sequence[Sample]) -> Batch:
    """Pad samples on the right; a causal model never sees the padding."""
    shape = len(samples), max(len(sample.token_ids) for sample in samples)
    token_ids = torch.zeros(shape, dtype=torch.long)
    learned = torch.zeros(shape, dtype=torch.bool)
    for row, sample in enumerate(samples):
        length = len(sample.token_ids)
        token_ids[row, :length] = torch.tensor(sample.token_ids)
        learned[row, :length] = torch.tensor(sample.learned)
    return Batch(token_ids, learned)


def _of_similar_length(samples: Sequence[Sample], tokens: int) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    for sample in sorted(samples, key=lambda sample: len(sample.token_ids)):
        if batch and (len(batch) + 1) * len(sample.token_ids) > tokens:
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch
