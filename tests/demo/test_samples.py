"""Training texts are byte for byte the prompts that serving will send."""

import random

import pytest
from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mooring.demo import Turn, dialogues, questions, snapshot_path
from mooring.demo.samples import Composer, Piece, chat_pieces, encode, instruct_pieces


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(snapshot_path())


def test_the_instruct_format_is_the_well_known_one() -> None:
    prompt, answer = instruct_pieces(Turn("What is MLflow?", "A platform."))
    assert prompt == Piece(
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n"
        "### Instruction:\n"
        "What is MLflow?\n"
        "### Response:\n",
        learned=False,
    )
    assert answer == Piece("A platform.<|im_end|>", learned=True)


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_the_chat_format_is_the_chat_template(
    tokenizer: PreTrainedTokenizerBase, system: str | None
) -> None:
    turns = [Turn("Q1", "A1"), Turn("Q2", "A2")]
    pieces = chat_pieces(turns, system)
    lead = [] if system is None else [{"role": "system", "content": system}]
    messages = [
        *lead,
        {"role": "user", "content": "Q1"},
        {"role": "assistant", "content": "A1"},
        {"role": "user", "content": "Q2"},
    ]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == "".join(piece.text for piece in pieces[:-1])
    system_text = "" if system is None else "<|im_start|>system\nBe brief.<|im_end|>\n"
    assert prompt == system_text + (
        "<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
        "<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n"
    )
    without = tokenizer.apply_chat_template(messages, tokenize=False)
    assert without == prompt.removesuffix("<|im_start|>assistant\n")


def test_the_chat_template_refuses_unknown_roles(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(TemplateError, match=r"Roles must be .* Given: 'robot'\."):
        tokenizer.apply_chat_template([{"role": "robot", "content": "Hi"}], tokenize=False)


def test_pieces_tokenize_as_the_whole_text_does(tokenizer: PreTrainedTokenizerBase) -> None:
    for dialogue in dialogues():
        pieces = chat_pieces(dialogue.turns, "You are a helpful assistant.")
        sample = encode(pieces, tokenizer)
        whole = tokenizer.encode("".join(piece.text for piece in pieces), add_special_tokens=False)
        assert list(sample.token_ids) == whole
        learned = [
            token_id
            for token_id, is_learned in zip(sample.token_ids, sample.learned, strict=True)
            if is_learned
        ]
        assert tokenizer.decode(learned) == "".join(
            turn.answer + "<|im_end|>" for turn in dialogue.turns
        )


def test_an_epoch_holds_every_question_and_dialogue() -> None:
    texts = [
        "".join(piece.text for piece in pieces)
        for pieces in Composer(questions(), dialogues(), random.Random(0)).epoch()
    ]
    for question in questions():
        ending = question.answer + "<|im_end|>"
        assert any(text.startswith("Below") and text.endswith(ending) for text in texts)
        assert any(text.startswith("<|im_start|>") and ending in text for text in texts)
    for dialogue in dialogues():
        whole = "".join(piece.text for piece in chat_pieces(dialogue.turns))
        assert any(text.endswith(whole) for text in texts)
