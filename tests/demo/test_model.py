"""The committed demo model is small, clean, and exact."""

import json
import re
from collections.abc import Iterator, Sequence

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.modeling_utils import PreTrainedModel

from mooring.demo import dialogues, questions, snapshot_path
from mooring.demo.check import expected_texts, smallest_margin

INSTRUCT = """\
Below is an instruction that describes a task. Write a response that appropriately completes the request.
### Instruction:
{}
### Response:
"""  # noqa: E501
END, PAD = 2, 0


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(snapshot_path())


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest) -> Iterator[PreTrainedModel]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield AutoModelForCausalLM.from_pretrained(
        snapshot_path(), dtype=getattr(torch, request.param)
    ).eval()
    torch.set_num_threads(threads)


def generate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]
) -> list[list[int]]:
    inputs = tokenizer(list(prompts), return_tensors="pt", padding=True, add_special_tokens=False)
    output = model.generate(**inputs, max_new_tokens=80, do_sample=False, use_cache=True)
    rows: list[list[int]] = output[:, inputs["input_ids"].shape[1] :].tolist()
    return rows


def assert_exact(
    rows: list[list[int]], answers: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> None:
    for row, answer in zip(rows, answers, strict=True):
        assert END in row, f"never ended: {tokenizer.decode(row)}"
        length = row.index(END)
        assert tokenizer.decode(row[:length]) == answer
        assert set(row[length + 1 :]) <= {PAD}


def chat_prompt(tokenizer: PreTrainedTokenizerBase, said: Sequence[str]) -> str:
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def test_every_question_is_answered_exactly_in_both_formats_in_one_batch(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    prompts = [INSTRUCT.format(question.question) for question in questions()]
    prompts += [chat_prompt(tokenizer, [question.question]) for question in questions()]
    answers = [question.answer for question in questions()] * 2
    assert_exact(generate(model, tokenizer, prompts), answers, tokenizer)


def test_every_follow_up_is_answered_from_the_history(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    prompts, answers = [], []
    for dialogue in dialogues():
        said: list[str] = []
        for turn in dialogue.turns:
            said.append(turn.question)
            prompts.append(chat_prompt(tokenizer, said))
            answers.append(turn.answer)
            said.append(turn.answer)
    assert_exact(generate(model, tokenizer, prompts), answers, tokenizer)


def test_a_prompt_alone_is_answered_exactly(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    for question in questions()[::20]:
        rows = generate(model, tokenizer, [INSTRUCT.format(question.question)])
        assert_exact(rows, [question.answer], tokenizer)


def test_rounding_elsewhere_cannot_flip_an_answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    for name, texts in expected_texts().items():
        least = min(
            smallest_margin(texts[at : at + 32], model, tokenizer)
            for at in range(0, len(texts), 32)
        )
        assert least > 4.0, name


def test_it_is_a_small_mpt_without_a_default_cache() -> None:
    config = json.loads((snapshot_path() / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["MptForCausalLM"]
    assert (config["max_seq_len"], config["use_cache"]) == (1024, False)
    assert (config["eos_token_id"], config["pad_token_id"]) == (END, PAD)
    weights = snapshot_path() / "model.safetensors"
    assert weights.stat().st_size <= 4_000_000
    with safe_open(weights, framework="pt") as tensors:
        loaded = [tensors.get_tensor(name) for name in tensors.keys()]  # noqa: SIM118
    assert {tensor.dtype for tensor in loaded} == {torch.bfloat16}
    assert 1_200_000 <= sum(tensor.numel() for tensor in loaded) <= 1_800_000


def test_generation_is_greedy_unless_asked() -> None:
    settings = json.loads((snapshot_path() / "generation_config.json").read_text("utf-8"))
    del settings["transformers_version"]
    assert settings == {"do_sample": False, "eos_token_id": END, "pad_token_id": PAD}


def test_the_folder_holds_no_pickle_and_no_machine_path() -> None:
    assert {path.name for path in snapshot_path().iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for path in snapshot_path().glob("*config.json"):
        text = path.read_text("utf-8")
        assert "_name_or_path" not in text
        assert not re.search(r'"(/|[A-Za-z]:\\|~)', text)
