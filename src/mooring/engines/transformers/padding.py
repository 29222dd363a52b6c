"""Finds out, once per model, whether padded rows give the same logits as rows alone.

Left padding is wrong for models that ignore the mask, count positions from the first column or
carry a state through it. Such models are batched by equal prompt length only.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from mooring.engines.transformers.batch import Batch, forward_parameters
from mooring.engines.transformers.loader import MODEL_ERRORS, LoadedModel

logger = logging.getLogger(__name__)

_RELATIVE_POSITIONS = frozenset({"mpt", "bloom"})
_SHORT, _LONG, _STEPS = 3, 8, 2
_EXACT_TOLERANCE, _ROUNDED_TOLERANCE = 1e-3, 0.1


def padding_is_right(loaded: LoadedModel) -> bool:
    """Try the model on its first tokens, alone and padded; raise what it raises alone."""
    short = trial_tokens(_SHORT, loaded.vocabulary_size)
    alone = first_logits(loaded, [short])
    right = declares_padding(loaded.model) and _same_when_padded(loaded, short, alone)
    if not right:
        logger.warning("This model cannot be padded: only prompts of equal length share a batch.")
    return right


def declares_padding(model: Any) -> bool:
    """Say whether the model takes a mask and, unless its distances are relative, positions."""
    declared = forward_parameters(model)
    placed = "position_ids" in declared or model.config.model_type in _RELATIVE_POSITIONS
    return "attention_mask" in declared and placed


def _same_when_padded(loaded: LoadedModel, short: list[int], alone: torch.Tensor) -> bool:
    long = trial_tokens(_LONG, loaded.vocabulary_size)
    try:
        padded = first_logits(loaded, [long, short])
    except MODEL_ERRORS:
        logger.warning("The model fails on padded prompts.", exc_info=True)
        return False
    return is_close(padded, alone, loaded.precision)


def is_close(logits: torch.Tensor, alone: torch.Tensor, precision: str) -> bool:
    """Say whether logits differ by no more than rounding from those of a row alone."""
    tolerance = _EXACT_TOLERANCE if precision == "float32" else _ROUNDED_TOLERANCE
    logits, alone = logits.float(), alone.float()
    return bool((logits - alone).abs().max() <= tolerance * alone.std())


@torch.inference_mode()
def first_logits(loaded: LoadedModel, prompts: Sequence[list[int]]) -> torch.Tensor:
    """Return the last row's logits over a few steps with given tokens: `[steps, vocabulary]`."""
    batch = Batch(loaded.model, prompts, loaded.vocabulary_size)
    steps = []
    for step in range(_STEPS):
        steps.append(batch.forward()[-1].float())
        batch.append([step] * len(prompts))
    return torch.stack(steps)


def trial_tokens(count: int, vocabulary_size: int) -> list[int]:
    """Return token ids to try a model with."""
    return [(7 * position + 11) % vocabulary_size for position in range(count)]
