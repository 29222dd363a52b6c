"""Answers have the shares that the model's own scores give them."""

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from mooring.engines.transformers import TransformersEngine
from mooring.generation import Conversation, Message, SamplingParams
from mooring.loading.tokenizer import TransformersTokenizer
from mooring.observe.record import RequestRecord
from mooring.service.text_service import TextService
from mooring.service.weighing import Choices, Weighed, read_choices, shares, weigh
from mooring.settings import EngineSettings
from mooring.spec.prompt import PromptFormat
from tests import models

QUESTION = Conversation((Message("user", "Which of these is the best one for a small boat?"),))
ANSWERS = ("sail", "sailing", "oar", "no")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.tiny_llama(tmp_path_factory.mktemp("llama") / "model")


def probability(snapshot: Path, prompt: str, answer: str) -> float:
    """Return how likely plain transformers finds `answer` after `prompt`."""
    model: Any = AutoModelForCausalLM.from_pretrained(snapshot, dtype=torch.float32)
    ids = TransformersTokenizer(snapshot).encode(prompt + answer, add_special_tokens=False)
    with torch.inference_mode():
        scores = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    own = range(len(ids) - len(answer), len(ids))
    return math.exp(sum(float(scores[place - 1, ids[place]]) for place in own))


def weighed(snapshot: Path, questions: int) -> list[Weighed]:
    engine = TransformersEngine(
        snapshot,
        EngineSettings(device="cpu", dtype="float32"),
        context_length=models.CONTEXT_LENGTH,
        end_token_ids=(models.END,),
    )

    async def ask() -> list[Weighed]:
        service = TextService(
            engine=engine,
            capabilities=engine.start(),
            tokenizer=TransformersTokenizer(snapshot),
            prompt_format=PromptFormat(kind="chat", template=models.CHAT_TEMPLATE),
            defaults=SamplingParams(),
        )
        read = await read_choices(service, [Choices(QUESTION, ANSWERS)] * questions)
        assert read[0].tokens == read[0].begin + sum(map(len, ANSWERS))
        return await weigh(service, read, RequestRecord())

    try:
        return asyncio.run(ask())
    finally:
        engine.close()


def test_answers_are_weighed_by_all_their_tokens(snapshot: Path) -> None:
    first, second = weighed(snapshot, 2)
    prompt = f"<user>{QUESTION.messages[0].content}\n<assistant>"
    sail, sailing, oar, no = (probability(snapshot, prompt, answer) for answer in ANSWERS)
    own = [sail - sailing, sailing, oar, no]
    assert first.probabilities == pytest.approx([one / sum(own) for one in own], rel=1e-3)
    assert second.probabilities == pytest.approx(first.probabilities, rel=1e-3)
    # The question was read once.
    assert sorted([first.cached_tokens, second.cached_tokens]) == [0, 64]


@pytest.mark.parametrize(
    ("answers", "probabilities", "expected"),
    [
        ([(1,), (2,)], [0.2, 0.6], (0.25, 0.75)),
        ([(1,), (1, 2)], [0.4, 0.3], (0.25, 0.75)),
        ([(1,), (1, 2), (1, 2, 3), (4,)], [0.5, 0.4, 0.1, 0.5], (0.1, 0.3, 0.1, 0.5)),
        ([(1,), (1, 2)], [0.1, 0.3], (0.0, 1.0)),
    ],
)
def test_a_longer_answers_share_is_not_that_of_its_beginning(
    answers: list[tuple[int, ...]], probabilities: list[float], expected: tuple[float, ...]
) -> None:
    assert shares(answers, [math.log(one) for one in probabilities]) == pytest.approx(expected)
