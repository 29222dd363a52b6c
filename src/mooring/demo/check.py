"""Checks that a demo model gives every expected answer word for word, and by what margin."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.modeling_utils import PreTrainedModel

from mooring.demo import dialogues, questions
from mooring.demo.batches import padded
from mooring.demo.samples import (
    SYSTEM_MESSAGES,
    Piece,
    chat_pieces,
    encode,
    instruct_pieces,
    plain_pieces,
)


@dataclass(frozen=True)
class Exactness:
    """How many prompts of one format were answered exactly, and the smallest logit margin."""

    format: str
    dtype: str
    exact: int
    total: int
    min_margin: float


def expected_texts() -> dict[str, list[list[Piece]]]:
    """Return, for each format, the conversations whose last piece is the answer to expect."""
    asked = questions()
    return {
        "instruct": [instruct_pieces(question) for question in asked],
        "chat": [chat_pieces([question]) for question in asked],
        "chat with system": [chat_pieces([question], SYSTEM_MESSAGES[0]) for question in asked],
        "plain": [plain_pieces(question) for question in asked],
        "dialogues": [
            chat_pieces(dialogue.turns[:length])
            for dialogue in dialogues()
            for length in range(2, len(dialogue.turns) + 1)
        ],
    }


def check_snapshot(snapshot: Path, dtype: torch.dtype, batch_size: int = 64) -> list[Exactness]:
    """Load a snapshot, compute in `dtype`, and check every format."""
    tokenizer = AutoTokenizer.from_pretrained(snapshot)
    model = AutoModelForCausalLM.from_pretrained(snapshot, dtype=dtype)
    results = []
    for name, texts in expected_texts().items():
        groups = [texts[at : at + batch_size] for at in range(0, len(texts), batch_size)]
        results.append(
            Exactness(
                format=name,
                dtype=str(dtype).removeprefix("torch."),
                exact=sum(sum(exact_answers(group, model, tokenizer)) for group in groups),
                total=len(texts),
                min_margin=min(smallest_margin(group, model, tokenizer) for group in groups),
            )
        )
    return results


def exact_answers(
    texts: Sequence[Sequence[Piece]], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Iterator[bool]:
    """Generate greedily in one left-padded batch; yield whether each answer ends and is exact."""
    prompts = ["".join(piece.text for piece in text[:-1]) for text in texts]
    answers = [list(encode(text[-1:], tokenizer).token_ids) for text in texts]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    generated = model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=max(map(len, answers)) + 1,
        use_cache=True,
    )
    width = inputs["input_ids"].shape[1]
    for row, answer in zip(generated[:, width:].tolist(), answers, strict=True):
        rest = set(row[len(answer) :])
        yield row[: len(answer)] == answer and rest <= {tokenizer.pad_token_id}


@torch.no_grad()
def smallest_margin(
    texts: Sequence[Sequence[Piece]], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> float:
    """Return the least lead, in logits, of an expected token over the best other token."""
    batch = padded([encode(text, tokenizer) for text in texts])
    logits = model(batch.token_ids, use_cache=False).logits[:, :-1]
    learned = batch.learned[:, 1:]
    return float(margins(logits[learned].float(), batch.token_ids[:, 1:][learned]).min())


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """Return each target's logit minus the best other logit; (n, vocabulary) and (n,) to (n,)."""
    column = targets.unsqueeze(1)
    best_other = logits.scatter(1, column, float("-inf")).amax(1)
    return logits.gather(1, column).squeeze(1) - best_other
