"""Makes golden answers: greedy tokens of a snapshot by plain transformers."""

import math
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from mooring.engines.transformers.loader import (
    MODEL_ERRORS,
    errors_named,
    load_model,
    transformers_version,
)
from mooring.generation import Golden, GoldenAnswer, GoldenStep
from mooring.settings import EngineSettings

STEPS, KEPT = 16, 8

_RULED_OUT = -1e9


def make_golden(
    snapshot: Path,
    prompts: Sequence[Sequence[int]],
    *,
    precision: str,
    trust_remote_code: bool,
) -> Golden:
    """Answer each prompt of token ids greedily and alone with `STEPS` tokens, past end tokens.

    On the CPU, in `precision`: a dtype, or `auto` for the stored one. Raises what loading raises.
    """
    loaded = load_model(
        snapshot,
        EngineSettings(device="cpu", dtype=None),
        dtype=precision,
        trust_remote_code=trust_remote_code,
    )
    with errors_named(snapshot):
        answers = tuple(
            GoldenAnswer(tuple(prompt), _steps(loaded.model, prompt, loaded.vocabulary_size))
            for prompt in prompts
        )
    return Golden(loaded.precision, transformers_version(), answers)


def _steps(model: Any, prompt: Sequence[int], vocabulary_size: int) -> tuple[GoldenStep, ...]:
    """Return the steps up to the first whose logits are no numbers, which no engine can match."""
    try:
        token_ids, logits = _generated(model, prompt)
    except MODEL_ERRORS:  # code from before transformers' caches cannot be generated with
        token_ids, logits = _recomputed(model, prompt, vocabulary_size)
    steps = (_step(*taken, vocabulary_size) for taken in zip(token_ids, logits, strict=True))
    return tuple(takewhile(lambda step: step.top and math.isfinite(step.spread), steps))


def _generated(model: Any, prompt: Sequence[int]) -> tuple[list[int], list[Any]]:
    """Return tokens and logits of each step of `generate`, by nothing but its greedy choice."""
    import torch
    from transformers import GenerationConfig

    plain = GenerationConfig(
        do_sample=False,
        max_new_tokens=STEPS,
        use_cache=True,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    model.generation_config = plain
    ids = torch.tensor([list(prompt)])
    with torch.inference_mode():
        output = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=plain)
    token_ids: list[int] = output.sequences[0, len(prompt) :].tolist()
    return token_ids, [logits[0] for logits in output.logits]


def _recomputed(
    model: Any, prompt: Sequence[int], vocabulary_size: int
) -> tuple[list[int], list[Any]]:
    """Return tokens and logits of each greedy step, reading all tokens again for each."""
    import torch

    ids, logits = list(prompt), []
    with torch.inference_mode():
        for _ in range(STEPS):
            logits.append(model(input_ids=torch.tensor([ids])).logits[0, -1])
            ids.append(int(logits[-1][:vocabulary_size].argmax()))
    return ids[len(prompt) :], logits


def _step(token_id: int, logits: Any, vocabulary_size: int) -> GoldenStep:
    """Return the best tokens; ones that the model itself rules out count for nothing.

    Of equally good ones, which rounding makes common, the one that was taken comes first: what
    follows was said after it.
    """
    logits = logits[:vocabulary_size].double()
    best = logits.log_softmax(-1).topk(min(KEPT, len(logits)))
    pairs = sorted(
        zip(best.indices.tolist(), best.values.tolist(), strict=True),
        key=lambda pair: (-pair[1], pair[0] != token_id),
    )
    return GoldenStep(
        top=tuple((token_id, round(value, 4)) for token_id, value in pairs if value > _RULED_OUT),
        spread=round(float(logits[logits > _RULED_OUT].std(correction=0)), 4),
    )
