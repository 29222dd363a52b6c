"""Finds out, once per model, whether rows in columns give the same logits as rows alone.

They do for models with one key/value cache per layer that mask and place each row by itself.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from mooring.engines.transformers.batch import Batch
from mooring.engines.transformers.captured import CapturedStep, Run, record
from mooring.engines.transformers.columns import Columns
from mooring.engines.transformers.forward import Forward
from mooring.engines.transformers.loader import MODEL_ERRORS, LoadedModel
from mooring.engines.transformers.padding import declares_padding, is_close, trial_tokens
from mooring.engines.transformers.prefill import Piece
from mooring.engines.transformers.ragged import RaggedForward

logger = logging.getLogger(__name__)

_SHORT, _LONG, _STEPS = 3, 8, 3

Step = Callable[[Sequence[int], Columns], torch.Tensor]


@torch.inference_mode()
def try_columns(loaded: LoadedModel) -> Any | None:
    """Return a filled cache to make `Columns` like it, or None if they are not right.

    Raises what the model raises on its first tokens alone.
    """
    batch = Batch(
        loaded.model, [trial_tokens(_SHORT, loaded.vocabulary_size)], loaded.vocabulary_size
    )
    steps = []
    for token in range(_STEPS):
        steps.append(batch.forward()[0])
        batch.append([token])
    if not (declares_padding(loaded.model) and _is_plain(batch.cache)):
        return None
    try:
        cache, shown = _in_columns(loaded)
    except MODEL_ERRORS:
        logger.warning("The model fails on rows in columns.", exc_info=True)
        return None
    alone = torch.stack([*steps, *steps[1:]])
    return cache if is_close(shown, alone, loaded.precision) else None


@torch.inference_mode()
def try_ragged(loaded: LoadedModel) -> RaggedForward | None:
    """Return the way to read prompts in the same pass as rows in columns, or None if it is not
    right. Rows in columns must be.
    """
    forward = Forward(loaded)
    prompts = _prompts(loaded)
    read = [_prefill(forward, prompt) for prompt in prompts]
    steps = [_several_at_once(forward, cache) for cache, _ in read]
    alone = torch.cat([torch.stack(steps, dim=1).flatten(0, 1), *(end for _, end in read)])
    try:
        ragged = RaggedForward(loaded)
        together = _together(ragged, [cache for cache, _ in read], *prompts)
    except MODEL_ERRORS as error:
        logger.info("Prompts are read in passes of their own: %s", error)
        return None
    return ragged if is_close(together, alone, loaded.precision) else None


@torch.inference_mode()
def try_captured(
    loaded: LoadedModel, recorded: Callable[[Run], Run] = record
) -> CapturedStep | None:
    """Return the way to replay steps of rows in columns, or None if it is not right. Rows in
    columns must be.
    """
    forward = Forward(loaded)
    long, short = (_prefill(forward, prompt)[0] for prompt in _prompts(loaded))
    plain = _beside_one_that_leaves(partial(_plain_step, forward), long, short)
    captured = CapturedStep(loaded, recorded)
    try:
        replayed = _beside_one_that_leaves(captured, long, short)
    except MODEL_ERRORS as error:
        logger.info("Steps are not replayed: %s", error)
        return None
    return captured if is_close(replayed, plain, loaded.precision) else None


def _together(
    ragged: RaggedForward, rows: list[DynamicCache], long: list[int], short: list[int]
) -> torch.Tensor:
    """Return the logits of two rows' further steps beside two prompts, and those of the prompts."""
    columns = Columns(rows[0], most_tokens=4 * _LONG)
    for cache in rows:
        columns.join(cache, cache.get_seq_length())
    device = rows[0].layers[0].keys.device
    parts = (long[:-2], long[-2:], short)
    begun, rest, whole = (torch.tensor([ids], device=device) for ids in parts)
    first = Piece(DynamicCache(), begun, 0)
    steps = []
    for token, pieces in enumerate(
        ([first], [Piece(first.cache, rest, first.end), Piece(DynamicCache(), whole, 0)])
    ):
        columns.make_room()
        logits, ends = ragged([token] * len(rows), columns, pieces)
        columns.advance()
        steps.append(logits)
    return torch.cat([*steps, *ends])


def _is_plain(cache: Any) -> bool:
    """Say whether a cache is keys and values of every layer and nothing else."""
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    return type(cache) is DynamicCache and all(
        type(layer) in plain and layer.is_initialized for layer in cache.layers
    )


def _in_columns(loaded: LoadedModel) -> tuple[Any, torch.Tensor]:
    """Return the logits of the short row when it runs beside a long one that leaves early, and
    once more those of its later steps in one pass, as drafts and pieces of a prompt are.
    """
    forward = Forward(loaded)
    (long, _), (short, logits) = (_prefill(forward, prompt) for prompt in _prompts(loaded))
    steps = _beside_one_that_leaves(partial(_plain_step, forward), long, short)
    return long, torch.cat([logits, steps, _several_at_once(forward, short)])


def _prompts(loaded: LoadedModel) -> list[list[int]]:
    return [trial_tokens(count, loaded.vocabulary_size) for count in (_LONG, _SHORT)]


def _beside_one_that_leaves(step: Step, long: Any, short: Any) -> torch.Tensor:
    """Return the logits of the short row's steps but the first."""
    columns = Columns(long, most_tokens=4 * _LONG)
    columns.join(long, _LONG)
    columns.join(short, _SHORT)
    logits = []
    for token in range(_STEPS - 1):
        columns.make_room()
        logits.append(step([token] * columns.count, columns)[-1].clone())
        columns.advance()
        if token == 0:
            columns.leave(0)
    return torch.stack(logits)


def _plain_step(forward: Forward, last: Sequence[int], columns: Columns) -> torch.Tensor:
    mask, positions = columns.show(range(len(last)))
    ids = torch.tensor(last, device=forward.device)[:, None]
    return forward(ids, mask, positions, columns)


def _several_at_once(forward: Forward, cache: Any) -> torch.Tensor:
    """Return the logits of all steps but the first when their tokens come in one pass."""
    columns = Columns(cache, most_tokens=4 * _LONG)
    columns.join(cache, cache.get_seq_length())
    new = _STEPS - 1
    mask, positions = columns.show(range(1), new)
    ids = torch.arange(new, device=forward.device)[None]
    return forward(ids, mask, positions, columns, new)


def _prefill(forward: Forward, ids: list[int]) -> tuple[Any, torch.Tensor]:
    """Run all but the last token, then the last one, as pieces of a prompt are."""
    cache = DynamicCache()
    tokens = torch.tensor([ids], device=forward.device)
    last = len(ids) - 1
    for begin, end in ((0, last), (last, len(ids))):
        positions = torch.arange(begin, end, device=forward.device)[None]
        mask = torch.ones_like(tokens[:, :end])
        logits = forward(tokens[:, begin:end], mask, positions, cache)
    return cache, logits
